import {$, make, call, whole, percent, figure, duration, words, tone, table, plain, reveal, to} from './app.js';
import {Chart, timeline} from './chart.js';
import {followSession} from './live.js';
import {showResults} from './results.js';
import {tryModel, predictFiles, showSnippets} from './try.js';
import {editLabels, manageLinks} from './manage.js';

const id = $('session').dataset.id;
const final = status => ['COMPLETED', 'FAILED', 'CANCELLED'].includes(status);
let session = null, isIndependent = false, isRegression = false, started = null;

const GLOBAL = 'global model, held-out rows';
const group = [];
const charts = {loss: new Chart($('loss'), $('loss-legend'), {title: 'Loss', strong: GLOBAL, from: 0, group}), score: new Chart($('score'), $('score-legend'), {title: 'Score', strong: GLOBAL, group})};
const seconds = time => started === null || !time ? null : (new Date(time) - started) / 1000;
const add = (chart, name, x, y, time) => charts[chart].add(name, x, y, typeof time === 'number' ? time : seconds(time));

// Each part is drawn again only so often that most of the time is left, and slow parts have a separate frame.
const parts = [{draw: () => charts.loss.draw(), rest: 0}, {draw: () => charts.score.draw(), rest: 0}, {draw: () => drawPeers(), rest: 250}, {draw: () => drawTimeline(), rest: 1000}];
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
    const cells = peer => [final(session.status) && peer.state === 'training' ? 'done' : peer.state ?? '', peer.rows === undefined ? '–' : whole(peer.rows), peer.round === undefined ? '–' : String(peer.round + 1), peer.epoch ? String(peer.epoch) : '–', figure(peer.loss),
        peer.samples_per_second ? whole(peer.samples_per_second) : '–', peer.heard && !final(session.status) ? `${duration((performance.now() - peer.heard) / 1000)} ago` : '–', peer.message ? plain(peer.message) : ''];
    if (drawn.size !== lanes.size) {
        drawn.clear();
        const rows = table(['Name', 'State', {name: 'Rows', number: true}, {name: 'Round', number: true}, {name: 'Epoch', number: true}, {name: 'Loss', number: true}, {name: 'Samples/s', number: true}, 'Last epoch', 'Note'],
            [...lanes.values()].map(peer => [make('strong', {textContent: peer.name}), ...cells(peer).map(text => text || ' ')]), 'Machines of the session');
        $('peers').replaceChildren(rows);
        [...lanes.keys()].forEach((id, index) => drawn.set(id, [...rows.querySelectorAll('tbody tr')[index].children].slice(1).map(cell => cell.firstChild)));
    }
    // What has not changed is not touched.
    for (const [id, peer] of lanes) cells(peer).forEach((text, index) => { const cell = drawn.get(id)[index]; if (cell.textContent !== text) cell.textContent = text; });
};

// When each machine's epochs ended, by round: [name][round] = seconds.
const ends = new Map();
const roundEnds = [];
const drawTimeline = () => {
    if (!$('when').open || started === null) return;
    const names = charts.loss.order.slice(0, 60), spans = [];
    const last = session.ended_at ? seconds(session.ended_at) : Math.max(0, ...[...ends.values()].flatMap(rounds => [...rounds.values()]));
    for (const name of names) {
        for (const [round, end] of ends.get(name) ?? []) {
            const from = round > 0 ? roundEnds[round - 1] ?? null : 0;
            if (from === null) continue;
            spans.push({name, from: Math.min(from, end), to: end, isWork: true});
            if (roundEnds[round] > end) spans.push({name, from: end, to: roundEnds[round], isWork: false});
        }
    }
    timeline($('timeline'), names, spans, last);
};
$('when').addEventListener('toggle', redraw);

const point = (name, round, epoch, values, time) => {
    const x = isIndependent ? epoch : round + (session.settings.local_steps ? epoch / (epoch + 1) : epoch / Math.max(1, session.settings.epochs));
    add('loss', name, x, values.loss, time);
    add('score', name, x, isRegression ? values.r2 : values.accuracy, time);
    const at = typeof time === 'number' ? time : seconds(time);
    if (at === null) return;
    if (!ends.has(name)) ends.set(name, new Map());
    ends.get(name).set(round, at);
};
let bestLoss = Infinity;
// The server's measurement after a round; the lowest loss marks the best.
const measured = (round, loss, score, time) => {
    add('loss', GLOBAL, round + 1, loss, time);
    add('score', GLOBAL, round + 1, score, time);
    const at = typeof time === 'number' ? time : seconds(time);
    if (at !== null) roundEnds[round] = at;
    if (loss === undefined || loss === null || !(loss < bestLoss)) return;
    bestLoss = loss;
    for (const chart of group) chart.best = round + 1;
};

// Events
const happened = new Set();
const matches = item => item.textContent.toLowerCase().includes($('find-event').value.toLowerCase());
const tell = notice => {
    const text = plain(notice.message);
    if (happened.has(text)) return;
    happened.add(text);
    const list = $('events'), item = make('li', {className: /lost|late|refused|left out|failed|quarantined/.test(text) ? 'warning' : ''}, make('span', {className: 'muted small', textContent: `${new Date(notice.time).toLocaleTimeString()} `}), text);
    item.hidden = !matches(item);
    list.prepend(item);
    while (list.children.length > 200) list.lastChild.remove();
};
$('find-event').addEventListener('input', () => { for (const item of $('events').children) item.hidden = !matches(item); });

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
    for (const link of ['model', 'card', 'onward', 'share']) $(link).hidden = status !== 'COMPLETED';
};

const settingsTable = settings => {
    const shown = {...settings, optimizer: settings.optimizer.name, hidden: settings.hidden.join(', ') || 'none', lr_schedule: settings.lr_schedule?.name ?? settings.lr_schedule};
    const text = value => Array.isArray(value) ? value.map(text).join(', ') : typeof value === 'object' && value !== null ? Object.entries(value).map(([name, inner]) => `${name}: ${text(inner)}`).join('; ') : String(value);
    $('settings').replaceChildren(table(['Setting', 'Value'], Object.entries(shown).map(([name, value]) => [name === 'automatic' ? 'chosen by Cohort' : name.replaceAll('_', ' '), text(value)]).filter(([, value]) => value !== '' && value !== 'undefined' && value !== 'null'), 'Settings'));
};

let isFirst = true;
const load = async () => {
    const asked = call('GET', `/app/curves/${id}`);
    asked.catch(() => {});  // Said below.
    session = await call('GET', `/sessions/${id}`);
    isIndependent = $('session').dataset.own === 'true';
    isRegression = (session.dataset?.task ?? session.settings.task) === 'regression';
    started = session.started_at ? new Date(session.started_at) : null;
    $('score-title').textContent = isRegression ? 'R²' : 'Accuracy';
    Object.assign(charts.score, isRegression ? {title: 'R²', from: null, to: null, isShare: false} : {title: 'Accuracy', from: .5, to: null, isShare: true});
    for (const chart of group) Object.assign(chart, {along: isIndependent ? 'epoch' : 'round', order: session.peers.map(peer => peer.name).sort()});
    if (session.dataset) $('subject').textContent = `predicting ${session.dataset.target}, ${whole(session.dataset.training_rows)} rows to train on, ${whole(session.dataset.validation_rows)} held out`;
    for (const peer of session.peers) lane(peer.id, peer);
    for (const event of session.events ?? []) tell(event);
    const curves = await asked;
    const times = new Map(curves.rounds.round.map((round, index) => [round, curves.rounds.time[index]]));
    for (const entry of session.rounds ?? []) {
        if (entry.validation) measured(entry.round, entry.validation.loss, isRegression ? entry.validation.r2 : entry.validation.accuracy, times.get(entry.round) ?? null);
    }
    for (const curve of curves.peers) {
        curve.round.forEach((round, index) => point(curve.name, round, curve.epoch[index], {loss: curve.loss[index], accuracy: curve.score[index], r2: curve.score[index]}, curve.time[index]));
    }
    $('round').textContent = isIndependent ? '' : `Round ${Math.min(session.round + 1, session.settings.rounds)} of ${session.settings.rounds}.`;
    settingsTable(session.settings);
    $('error').textContent = session.error ? plain(session.error) : '';
    $('error').hidden = !session.error;
    if (isFirst) { isFirst = false; editLabels(id, session); }
    show(session.status, session.progress);
    redraw();
    if (session.status === 'COMPLETED') await finish();
};

// How long a machine has been silent grows by itself.
setInterval(() => { if (session && !final(session.status) && lanes.size <= 60 && !document.hidden) { lanesChanged = true; redraw(); } }, 1000);

const take = notice => {
    $('away').hidden = true;
    if (notice.kind === 'epoch') {
        point(notice.peer_name, notice.round, notice.epoch, notice, notice.time);
        lane(notice.peer_id, {name: notice.peer_name, round: notice.round, epoch: notice.epoch, loss: notice.loss, samples_per_second: notice.samples_per_second, state: 'training', message: '', heard: performance.now()});
    } else if (notice.kind === 'round') {
        measured(notice.round, notice.validation_loss, isRegression ? notice.validation_r2 : notice.validation_accuracy, notice.time);
        $('round').textContent = `Round ${Math.min(notice.round + 2, notice.rounds ?? session.settings.rounds)} of ${notice.rounds ?? session.settings.rounds}.`;
    } else {
        tell(notice);
        if (notice.kind === 'peer' && notice.peer_id) lane(notice.peer_id, {name: notice.peer_name, message: notice.message});
    }
    show(notice.status ?? session.status, notice.progress);
    redraw();
    if (notice.kind === 'status') {
        if (final(notice.status)) { stop?.(); load().catch(complain); }
        else if (!session.dataset) load().catch(() => {});  // The stream says when the server is away.
    }
};
let stop = null;
const follow = () => {
    stop = followSession(id, {
        take,
        // What was missed while the stream was away.
        missed: () => load().then(() => { $('away').hidden = true; if (final(session.status)) stop?.(); }).catch(() => {}),
        away: () => {
            $('away').textContent = 'The server is unreachable. This page continues when it is back.';
            $('away').hidden = false;
        },
    });
};

const tile = (name, value, note) => make('div', {}, make('dt', {textContent: name}), make('dd', {textContent: value}, make('small', {textContent: note ?? ''})));
let isFinished = false;
const finish = async () => {
    if (isFinished) return;
    isFinished = true;
    const results = await call('GET', `/sessions/${id}/results`), {evaluation} = results, interval = evaluation?.accuracy_interval;
    $('tiles').replaceChildren(
        isRegression ? tile('R²', figure(results.metrics.r2), evaluation?.rmse === undefined ? '' : `RMSE ${figure(evaluation.rmse)}`) : tile('Accuracy', percent(results.metrics.accuracy), interval ? `95 % interval ${percent(interval[0])} to ${percent(interval[1])}` : ''),
        tile('Loss', figure(results.metrics.loss), `on ${whole(results.metrics.samples)} held-out rows`),
        tile(isIndependent ? 'Machines' : 'Rounds', whole(isIndependent ? results.peers.length : results.rounds), group[0].best && !isIndependent ? `the best was ${group[0].best}` : ''),
        tile('Time', duration(results.seconds), `${results.peers.length} machine${results.peers.length === 1 ? '' : 's'}`));
    $('tiles').hidden = false;
    // What each machine trained on in all, where its share of the last round stood before.
    for (const peer of results.peers) if (lanes.has(peer.id)) lane(peer.id, {rows: peer.trained_samples, message: peer.message});
    redraw();
    showResults(results, {id, isIndependent, isRegression});
    const columns = (session.dataset?.schema?.columns ?? []).filter(column => ['numeric', 'categorical', 'date'].includes(column.kind));
    if (!columns.length) return;
    const found = await call('GET', `/app/rows/${id}`);
    for (const column of columns) Object.assign(column, found.columns[column.name]);
    tryModel({columns, target: session.dataset.target, rows: found.rows, predict: row => call('POST', `/sessions/${id}/predict`, {body: {rows: [row], allow_missing: true}})});
    showSnippets(id, columns);
};

const complain = error => { $('error').textContent = plain(error.message); $('error').hidden = false; };
$('cancel').addEventListener('click', async () => { if (confirm('Cancel the session? What was trained so far stays.')) try { await call('POST', `/sessions/${id}/cancel`); } catch (error) { complain(error); } });
$('delete').addEventListener('click', async () => { if (confirm('Delete the session, its data and its model from the server?')) try { await call('DELETE', `/sessions/${id}`); location.assign(to('/')); } catch (error) { complain(error); } });
predictFiles(id);
manageLinks(id);

try {
    await load();
    if (!final(session.status)) follow();
    else if (session.dataset?.warnings) for (const text of session.dataset.warnings) tell({time: session.ended_at ?? session.created_at, message: `Data: ${text}`});
} catch (error) { complain(error); }
reveal();
