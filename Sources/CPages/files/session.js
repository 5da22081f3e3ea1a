import {$, make, call, token, whole, percent, figure, duration, words, tone, table, bytes, to} from './app.js';
import {Chart, scatter} from './chart.js';

const id = $('session').dataset.id;
const final = status => ['COMPLETED', 'FAILED', 'CANCELLED'].includes(status);
let session = null, isIndependent = false, isRegression = false;

const GLOBAL = 'global model, held-out rows';
const charts = {loss: new Chart($('loss'), $('loss-legend'), {strong: GLOBAL, from: 0}), score: new Chart($('score'), $('score-legend'), {strong: GLOBAL})};
const add = (chart, name, x, y) => charts[chart].add(name, x, y);

// Each part is drawn again only so often that most of the time is left, and slow parts have a separate frame.
const parts = [{draw: () => charts.loss.draw(), rest: 0}, {draw: () => charts.score.draw(), rest: 0}, {draw: () => drawPeers(), rest: 250}];
for (const part of parts) Object.assign(part, {isStale: false, isNew: true, after: 0});
let waiting = false;
const frame = () => {
    waiting = false;
    const start = performance.now();
    for (const part of parts) {
        const began = performance.now();
        if (!part.isStale || began < part.after || began - start > 10) continue;
        part.isStale = part.isNew = false;
        part.draw();
        part.after = performance.now() + Math.max(part.rest, 4 * (performance.now() - began));
    }
    if (!performance.getEntriesByName('drawn').length && !parts.some(part => part.isNew)) performance.mark('drawn');
    if (parts.some(part => part.isStale)) nextFrame();
};
const nextFrame = () => { if (!waiting) { waiting = true; requestAnimationFrame(frame); } };
const redraw = () => {
    for (const part of parts) part.isStale = true;
    nextFrame();
};

// Machines
const lanes = new Map();
const drawn = new Map();
let lanesChanged = true;
const lane = (peer, changes) => { lanes.set(peer, {...lanes.get(peer), ...changes}); lanesChanged = true; };
const drawPeers = () => {
    if (!lanesChanged) return;
    lanesChanged = false;
    const cells = peer => [peer.state ?? '', peer.rows === undefined ? '–' : whole(peer.rows), peer.round === undefined ? '–' : String(peer.round + 1), peer.epoch ? String(peer.epoch) : '–', figure(peer.loss),
        peer.samples_per_second ? whole(peer.samples_per_second) : '–', peer.heard && !final(session.status) ? `${duration((performance.now() - peer.heard) / 1000)} ago` : '–', peer.message ?? ''];
    if (drawn.size !== lanes.size) {
        drawn.clear();
        const rows = table(['Name', 'State', {name: 'Rows', number: true}, {name: 'Round', number: true}, {name: 'Epoch', number: true}, {name: 'Loss', number: true}, {name: 'Samples/s', number: true}, 'Last epoch', 'Note'],
            [...lanes.values()].map(peer => [make('strong', {textContent: peer.name}), ...cells(peer)]));
        $('peers').replaceChildren(rows);
        [...lanes.keys()].forEach((id, index) => drawn.set(id, [...rows.querySelectorAll('tbody tr')[index].children].slice(1)));
        return;
    }
    // What has not changed is not touched.
    for (const [id, peer] of lanes) cells(peer).forEach((text, index) => { const cell = drawn.get(id)[index]; if (cell.textContent !== text) cell.textContent = text; });
};

const point = (name, round, epoch, values) => {
    const x = isIndependent ? epoch : round + (session.settings.local_steps ? epoch / (epoch + 1) : epoch / Math.max(1, session.settings.epochs));
    add('loss', name, x, values.loss);
    add('score', name, x, isRegression ? values.r2 : values.accuracy);
};
const happened = new Set();
const tell = notice => {
    const text = notice.message;
    if (happened.has(text)) return;
    happened.add(text);
    const list = $('events');
    list.prepend(make('li', {className: /lost|late|refused|left out|failed|quarantined/.test(text) ? 'warning' : ''}, make('span', {className: 'muted small', textContent: `${new Date(notice.time).toLocaleTimeString()} `}), text));
    while (list.children.length > 200) list.lastChild.remove();
};

const began = {time: null, progress: 0};
const show = (status, progress) => {
    $('state').textContent = words[status] ?? status;
    $('state').className = `state ${tone(status)}`;
    if (progress !== undefined) {
        $('progress').value = progress;
        if (began.time === null && progress > 0) Object.assign(began, {time: performance.now(), progress});
        const gone = performance.now() - began.time;
        $('left').textContent = began.time !== null && gone > 2000 && progress > began.progress && progress < 1
            ? `About ${duration(gone / 1000 * (1 - progress) / (progress - began.progress))} left.` : '';
    }
    $('running').hidden = final(status);
    $('cancel').hidden = final(status);
    $('delete').hidden = !final(status);
    for (const link of ['model', 'card', 'onward']) $(link).hidden = status !== 'COMPLETED';
};

const settingsTable = settings => {
    const shown = {...settings, optimizer: settings.optimizer.name, hidden: settings.hidden.join(', ') || 'none', per_peer: JSON.stringify(settings.per_peer), data: settings.data ? JSON.stringify(settings.data) : undefined,
        class_weight: settings.class_weight ? JSON.stringify(settings.class_weight) : undefined, lr_schedule: settings.lr_schedule?.name ?? settings.lr_schedule};
    $('settings').replaceChildren(table(['Setting', 'Value'], Object.entries(shown).filter(([, value]) => value !== undefined && value !== '' && value !== '{}').map(([name, value]) => [name, String(value)])));
};

const load = async () => {
    const asked = call('GET', `/app/curves/${id}`);
    asked.catch(() => {});  // Said below.
    session = await call('GET', `/sessions/${id}`);
    isIndependent = $('session').dataset.own === 'true';
    isRegression = (session.dataset?.task ?? session.settings.task) === 'regression';
    $('score-title').textContent = isRegression ? 'R²' : 'Accuracy';
    Object.assign(charts.score, isRegression ? {from: null, to: null, isShare: false} : {from: .5, to: 1, isShare: true});
    for (const chart of Object.values(charts)) chart.along = isIndependent ? 'epoch' : 'round';
    if (session.dataset) $('subject').textContent = `predicting ${session.dataset.target}, ${whole(session.dataset.training_rows)} rows to train on, ${whole(session.dataset.validation_rows)} held out`;
    for (const peer of session.peers) lane(peer.id, peer);
    for (const chart of Object.values(charts)) chart.order = session.peers.map(peer => peer.name);
    for (const event of session.events ?? []) tell(event);
    for (const entry of session.rounds ?? []) {
        const validation = entry.validation;
        if (validation) { add('loss', GLOBAL, entry.round + 1, validation.loss); add('score', GLOBAL, entry.round + 1, isRegression ? validation.r2 : validation.accuracy); }
    }
    for (const curve of await asked) {
        curve.round.forEach((round, index) => point(curve.name, round, curve.epoch[index], {loss: curve.loss[index], accuracy: curve.score[index], r2: curve.score[index]}));
    }
    $('round').textContent = isIndependent ? '' : `Round ${Math.min(session.round + 1, session.settings.rounds)} of ${session.settings.rounds}.`;
    settingsTable(session.settings);
    $('error').textContent = session.error ?? '';
    $('error').hidden = !session.error;
    show(session.status, session.progress);
    redraw();
    if (session.status === 'COMPLETED') await finish();
};

// How long a machine has been silent grows by itself.
setInterval(() => { if (session && !final(session.status) && lanes.size <= 60 && !document.hidden) { lanesChanged = true; redraw(); } }, 1000);

const follow = () => {
    const stream = new EventSource(to(`/sessions/${id}/events`));
    const take = event => {
        $('away').hidden = true;
        const notice = JSON.parse(event.data);
        if (notice.kind === 'epoch') {
            point(notice.peer_name, notice.round, notice.epoch, notice);
            lane(notice.peer_id, {name: notice.peer_name, round: notice.round, epoch: notice.epoch, loss: notice.loss, samples_per_second: notice.samples_per_second, state: 'training', message: '', heard: performance.now()});
        } else if (notice.kind === 'round') {
            add('loss', GLOBAL, notice.round + 1, notice.validation_loss);
            add('score', GLOBAL, notice.round + 1, isRegression ? notice.validation_r2 : notice.validation_accuracy);
            $('round').textContent = `Round ${Math.min(notice.round + 2, notice.rounds ?? session.settings.rounds)} of ${notice.rounds ?? session.settings.rounds}.`;
        } else {
            tell(notice);
            if (notice.kind === 'peer' && notice.peer_id) lane(notice.peer_id, {name: notice.peer_name, message: notice.message});
        }
        show(notice.status ?? session.status, notice.progress);
        redraw();
        if (notice.kind === 'status') {
            if (final(notice.status)) { stream.close(); load(); }
            else if (!session.dataset) load();
        }
    };
    for (const kind of ['status', 'epoch', 'round', 'peer', 'note']) stream.addEventListener(kind, take);
    stream.addEventListener('error', () => {
        $('away').textContent = 'The server is unreachable. This page continues when it is back.';
        $('away').hidden = false;
        // The browser tries again by itself, unless it was answered with an error.
        if (stream.readyState === EventSource.CLOSED) { stream.close(); setTimeout(again, 2000); }
    });
    // What was missed while it was away.
    let isFirst = true;
    stream.addEventListener('open', () => { if (!isFirst) load().catch(() => {}); isFirst = false; });
};
const again = async () => {
    try {
        await load();
        $('away').hidden = true;
        if (!final(session.status)) follow();
    } catch (error) { setTimeout(again, 2000); }
};

const finish = async () => {
    const results = await call('GET', `/sessions/${id}/results`);
    const evaluation = results.evaluation;
    const parts = [];
    if (evaluation?.task === 'classification') {
        const interval = evaluation.accuracy_interval;
        parts.push(make('p', {}, make('strong', {textContent: `Accuracy ${percent(evaluation.accuracy)}`}), ` on ${whole(evaluation.samples)} held-out rows${interval ? ` (95 % interval ${percent(interval[0])} to ${percent(interval[1])})` : ''}.`,
            evaluation.guessing ? ` Always guessing '${evaluation.guessing.prediction}': ${percent(evaluation.guessing.accuracy)}.` : ''));
        const classes = (evaluation.classes ?? []).slice(0, 30);
        if (classes.length) parts.push(table(['Class', {name: 'Precision', number: true}, {name: 'Recall', number: true}, {name: 'F1', number: true}, {name: 'Rows', number: true}], classes.map(c => [c.label, percent(c.precision), percent(c.recall), percent(c.f1), whole(c.samples)])));
        if (evaluation.confusion && classes.length <= 12) parts.push(make('h3', {textContent: 'Confusion'}), make('div', {className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Confusion matrix'}, make('table', {className: 'matrix'},
            make('thead', {}, make('tr', {}, make('th', {scope: 'col', textContent: 'true \\ predicted'}), ...classes.map(c => make('th', {scope: 'col', textContent: c.label})))),
            make('tbody', {}, ...evaluation.confusion.map((counts, row) => make('tr', {}, make('th', {scope: 'row', textContent: classes[row].label}), ...counts.map((count, column) => make('td', {className: row === column ? 'hit' : '', textContent: whole(count)})))))))); 
    } else if (evaluation) {
        parts.push(make('p', {}, make('strong', {textContent: `RMSE ${figure(evaluation.rmse)}`}), `, MAE ${figure(evaluation.mae)}, R² ${figure(evaluation.r2)} on ${whole(evaluation.samples)} held-out rows, in units of '${evaluation.target}'.`,
            evaluation.guessing ? ` Always guessing ${figure(Number(evaluation.guessing.prediction))}: RMSE ${figure(evaluation.guessing.rmse)}.` : ''));
        if (evaluation.predictions?.length > 1) {
            const canvas = make('canvas', {role: 'img', 'aria-label': `Residuals of ${evaluation.predictions.length} held-out rows against what was predicted`});
            parts.push(make('h3', {textContent: 'Residuals'}), make('p', {className: 'help', textContent: 'The true value less the predicted one, by what was predicted, for some of the held-out rows. A good model shows no pattern around the line at 0.'}), canvas);
            const points = evaluation.predictions.map(pair => [pair.predicted, pair.actual - pair.predicted]);
            const draw = () => scatter(canvas, points, 'predicted', 'residual');
            requestAnimationFrame(draw);
            addEventListener('resize', () => requestAnimationFrame(draw));
        }
    }
    if (evaluation?.importance?.length) {
        const top = evaluation.importance.slice(0, 15), largest = Math.max(...top.map(each => each.loss), 1e-12);
        parts.push(make('h3', {textContent: 'Feature importance'}), make('p', {className: 'help', textContent: 'Permutation importance: how much worse the predictions get when the values of one column are shuffled among the held-out rows. Correlated columns share it.'}),
            table(['Column', 'Importance', {name: 'Loss', number: true}, ...(isRegression ? [] : [{name: 'Accuracy', number: true}])], top.map(each => [each.column, make('progress', {max: 1, value: Math.max(0, each.loss / largest), 'aria-label': `importance of ${each.column}`}),
                `${each.loss < 0 ? '' : '+'}${figure(Number(each.loss.toPrecision(3)))}`, ...(isRegression ? [] : [`${each.accuracy < 0 ? '+' : '−'}${percent(Math.abs(each.accuracy))}`])])));
    }
    if (evaluation?.calibration?.length) parts.push(make('h3', {textContent: 'Calibration'}), make('p', {className: 'help', textContent: 'The mean probability of the predicted class beside the accuracy. The closer they are, the better the model is calibrated.'}),
        table(['Predicted probability', {name: 'Mean', number: true}, {name: 'Accuracy', number: true}, {name: 'Rows', number: true}], evaluation.calibration.map(bin => [`${percent(bin.from)} to ${percent(bin.to)}`, percent(bin.probability), percent(bin.accuracy), whole(bin.samples)])));
    if (results.best_peer) parts.push(make('p', {textContent: `Best machine: ${results.best_peer}.`}));
    const most = Math.max(1, ...results.peers.map(peer => peer.trained_samples));
    parts.push(make('h3', {textContent: isIndependent ? 'Leaderboard' : 'Contributions'}), table(['Machine', {name: 'Rows trained', number: true}, 'Share', {name: 'Loss', number: true}, {name: isRegression ? 'R²' : 'Accuracy', number: true}, {name: 'Samples/s', number: true}, {name: 'Seconds', number: true}, {name: 'Sent', number: true}],
        [...results.peers].sort((a, b) => isIndependent ? (a.loss ?? Infinity) - (b.loss ?? Infinity) : b.trained_samples - a.trained_samples).map(peer => [peer.name, whole(peer.trained_samples),
            make('progress', {max: most, value: peer.trained_samples, 'aria-label': `share of ${peer.name}`}), figure(peer.loss), isRegression ? figure(peer.r2) : percent(peer.accuracy), peer.samples_per_second ? whole(peer.samples_per_second) : '–', peer.worked_seconds === undefined ? '–' : figure(Number(peer.worked_seconds.toPrecision(3))), peer.sent_bytes === undefined ? '–' : bytes(peer.sent_bytes)])));
    const updates = make('details', {id: 'receipt'}, make('summary', {textContent: 'Updates, round by round'}));
    updates.addEventListener('toggle', () => showReceipt(updates), {once: true});
    parts.push(updates);
    for (const warning of results.warnings ?? []) parts.push(make('p', {className: 'warning', textContent: `Data: ${warning}`}));
    parts.push(make('p', {className: 'muted', textContent: `${results.rounds} rounds in ${duration(results.seconds)}${results.expected_seconds === undefined ? '' : ` (estimated from the machines' speeds: ${duration(results.expected_seconds)} of computing)`}; seed ${results.seed}.`}));
    $('results').replaceChildren(...parts);
    $('outcome').hidden = false;
    tryIt();
};

// Of the newest rounds, as many rows as are looked at.
const showReceipt = async into => {
    try {
        const receipt = await call('GET', `/sessions/${id}/receipt`);
        const rows = receipt.rounds.flatMap(round => round.contributions.map(each => [String(round.round + 1), each.peer_name, whole(each.samples), each.weight === undefined ? '–' : percent(each.weight),
            figure(each.norm), each.cosine === undefined ? '–' : each.cosine.toFixed(2)]));
        into.append(make('p', {className: 'help', textContent: 'What went into the weights of each round: by what weight an update counted, how long its change of the weights was (L2 norm), and the cosine of the angle between it and the others\u2019 together: 1 is the same direction, below 0 against them.'}),
            table([{name: 'Round', number: true}, 'Machine', {name: 'Rows trained', number: true}, {name: 'Weight', number: true}, {name: 'Change', number: true}, {name: 'Cosine', number: true}], rows.slice(-300)),
            make('p', {}, rows.length > 300 ? `The newest 300 of ${whole(rows.length)} updates. ` : '', make('a', {href: to(`/sessions/${id}/receipt`), download: `${id}-receipt.json`, textContent: 'The whole receipt as JSON'})));
    } catch (error) { into.append(make('p', {className: 'problem', textContent: error.message})); }
};

const tryIt = () => {
    const columns = (session.dataset?.schema?.columns ?? []).filter(column => ['numeric', 'categorical', 'date'].includes(column.kind)).slice(0, 60);
    if (!columns.length) return;
    $('try-fields').replaceChildren(...columns.map((column, index) => {
        const field = `try-${index}`;
        const input = column.kind === 'categorical'
            ? make('select', {id: field, name: column.name}, ...['', ...column.categories].map(value => make('option', {value, textContent: value || 'missing'})))
            : make('input', {id: field, name: column.name, type: column.kind === 'numeric' ? 'number' : 'text', step: 'any', placeholder: column.kind === 'numeric' ? figure(column.mean) : column.date_format});
        if (column.kind === 'numeric') input.value = Number(column.mean.toPrecision(4));
        else if (column.kind === 'categorical') input.selectedIndex = 1;
        return make('div', {}, make('label', {htmlFor: field, textContent: column.name}), input);
    }));
    $('try').hidden = false;
};
$('try-form').addEventListener('submit', async event => {
    event.preventDefault();
    const row = Object.fromEntries([...new FormData($('try-form'))].map(([name, value]) => [name, value === '' ? null : value]));
    try {
        const {predictions: [prediction], probabilities} = await call('POST', `/sessions/${id}/predict`, {body: {rows: [row], allow_missing: true}});
        const chances = probabilities ? ` (${Object.entries(probabilities[0]).sort(([, a], [, b]) => b - a).slice(0, 5).map(([label, p]) => `${label} ${percent(p)}`).join(', ')})` : '';
        $('prediction').className = '';
        $('prediction').textContent = `${session.dataset.target}: ${typeof prediction === 'number' ? figure(prediction) : prediction}${chances}`;
    } catch (error) { $('prediction').className = 'problem'; $('prediction').textContent = error.message; }
});

$('predict-whole').addEventListener('click', async () => {
    const file = $('whole').files[0], said = $('whole-said');
    said.className = '';
    if (!file) { said.textContent = 'Choose a CSV first.'; return; }
    said.textContent = 'Predicting …';
    try {
        const answer = await fetch(to(`/sessions/${id}/predictions`), {method: 'POST', headers: {'X-CSRF-Token': token, 'Content-Type': 'text/csv'}, body: file});
        if (!answer.ok) throw new Error((await answer.json()).detail);
        const link = make('a', {href: URL.createObjectURL(await answer.blob()), download: `predicted-${file.name}`});
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
        said.textContent = `predicted-${file.name} is downloaded.`;
    } catch (error) { said.className = 'problem'; said.textContent = error.message; }
});

const complain = error => { $('error').textContent = error.message; $('error').hidden = false; };
$('cancel').addEventListener('click', async () => { if (confirm('Cancel the session? What was trained so far stays.')) try { await call('POST', `/sessions/${id}/cancel`); } catch (error) { complain(error); } });
$('delete').addEventListener('click', async () => { if (confirm('Delete the session, its data and its model from the server?')) try { await call('DELETE', `/sessions/${id}`); location.assign(to('/')); } catch (error) { complain(error); } });

try {
    await load();
    if (!final(session.status)) follow();
    else if (session.dataset?.warnings) for (const text of session.dataset.warnings) tell({time: session.ended_at ?? session.created_at, message: `Data: ${text}`});
} catch (error) { complain(error); }
