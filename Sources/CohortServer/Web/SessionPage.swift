import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// One session: live while it runs, and what came of it.
struct SessionPage: Sendable {
    let pages: WebPages
    let documents: any Documents

    static let template = #"""
        {{<layout}}{{$main}}
        <div id="session" data-id="{{id}}">
        <p class="muted small"><a href="/">Dashboard</a> / {{short}}</p>
        <h1>{{name}}</h1>
        <p class="row"><span id="state" class="state" role="status">{{state}}</span> <span id="subject" class="muted"></span></p>
        <p id="error" class="problem" role="alert" hidden></p>
        <div id="running"><label for="progress">Progress</label><progress id="progress" max="1" value="{{progress}}"></progress>
        <p class="muted small"><span id="round"></span> <span id="left"></span></p></div>
        <p id="away" class="warning" role="status" hidden></p>
        <div class="row" id="actions">
        <button id="cancel" class="quiet" type="button" hidden>Cancel</button>
        <a id="model" class="button" href="/sessions/{{id}}/model" hidden>Download the model</a>
        <a id="metrics" class="button quiet" href="/sessions/{{id}}/metrics?format=csv" download="{{id}}.csv">Metrics as CSV</a>
        <button id="delete" class="quiet" type="button" hidden>Delete</button>
        </div>
        <div class="grid">
        <section class="card" aria-labelledby="loss-title"><h2 id="loss-title">Loss</h2><canvas id="loss" role="img" aria-label="Loss over the rounds"></canvas><ul class="legend" id="loss-legend"></ul></section>
        <section class="card" aria-labelledby="score-title"><h2 id="score-title">Accuracy</h2><canvas id="score" role="img" aria-label="Score over the rounds"></canvas><ul class="legend" id="score-legend"></ul></section>
        </div>
        <section aria-labelledby="peers-title"><h2 id="peers-title">Machines</h2><div id="peers"></div></section>
        <section id="outcome" aria-labelledby="outcome-title" hidden><h2 id="outcome-title">What came out</h2><div id="results"></div></section>
        <section id="try" aria-labelledby="try-title" hidden><h2 id="try-title">Try it</h2><form id="try-form"><div id="try-fields" class="grid"></div><p><button>Predict</button></p></form><p id="prediction" role="status"></p></section>
        <section aria-labelledby="events-title"><h2 id="events-title">What happened</h2><ol class="events" id="events" tabindex="0" aria-labelledby="events-title"></ol></section>
        <details><summary>Settings</summary><div id="settings"></div></details>
        </div>
        {{/main}}{{/layout}}
        """#

    static let script = #"""
        import {$, make, call, whole, percent, figure, duration, words, tone, table} from './app.js';

        const id = $('session').dataset.id;
        const final = status => ['COMPLETED', 'FAILED', 'CANCELLED'].includes(status);
        let session = null, isIndependent = false, isRegression = false;

        // Curves: each a name and points [x, y]. The global model's own is drawn last, and thicker.
        const curves = {loss: new Map(), score: new Map()};
        const hues = [212, 28, 150, 330, 265, 55, 185, 0, 95, 300];
        const dashes = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
        const isDark = matchMedia('(prefers-color-scheme: dark)');
        const colour = index => `hsl(${hues[index % hues.length]} 70% ${isDark.matches ? 68 : 36}%)`;
        const GLOBAL = 'global model, held-out rows';
        const add = (chart, name, x, y) => {
            if (y === undefined || y === null || !Number.isFinite(y)) return;
            const lines = curves[chart];
            if (!lines.has(name)) lines.set(name, []);
            const points = lines.get(name);
            const last = points[points.length - 1];
            if (last && last[0] >= x) { if (last[0] === x) last[1] = y; return; }
            points.push([x, y]);
        };
        const style = (name, index) => ({colour: name === GLOBAL ? getComputedStyle(document.body).color : colour(index), dash: name === GLOBAL ? [] : dashes[Math.floor(index / hues.length) % dashes.length], width: name === GLOBAL ? 2.5 : 1.25});

        const draw = chart => {
            const canvas = $(chart), context = canvas.getContext('2d');
            const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
            if (canvas.width !== Math.round(width * scale)) { canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale); }
            context.setTransform(scale, 0, 0, scale, 0, 0);
            context.clearRect(0, 0, width, height);
            const lines = [...curves[chart]].sort(([a], [b]) => (a === GLOBAL) - (b === GLOBAL));
            const ink = getComputedStyle(document.body);
            context.font = '12px system-ui, sans-serif';
            context.fillStyle = ink.getPropertyValue('--muted') || ink.color;
            if (!lines.length) { context.fillText('The first epoch is not done yet.', 8, 24); return; }
            let least = Infinity, most = -Infinity, first = Infinity, end = -Infinity;
            for (const [, points] of lines) {
                first = Math.min(first, points[0][0]);
                end = Math.max(end, points[points.length - 1][0]);
                for (const [, y] of points) { if (y < least) least = y; if (y > most) most = y; }
            }
            if (chart === 'score' && !isRegression) { least = Math.min(least, .5); most = 1; }
            if (chart === 'loss') least = Math.min(0, least);
            if (most === least) most = least + 1;
            if (end === first) end = first + 1;
            const left = 46, bottom = height - 22, top = 8, right = width - 8;
            const px = x => left + (x - first) / (end - first) * (right - left), py = y => bottom - (y - least) / (most - least) * (bottom - top);
            context.strokeStyle = ink.getPropertyValue('--line');
            context.lineWidth = 1;
            context.setLineDash([]);
            for (let step = 0; step <= 4; step += 1) {
                const y = least + (most - least) * step / 4;
                context.beginPath();
                context.moveTo(left, py(y));
                context.lineTo(right, py(y));
                context.stroke();
                context.fillText(chart === 'score' && !isRegression ? `${Math.round(y * 100)} %` : figure(Number(y.toPrecision(3))), 2, py(y) + 4);
            }
            context.fillText(`${isIndependent ? 'epoch' : 'round'} ${Math.floor(first)}`, left, height - 6);
            const label = figure(end);
            context.fillText(label, right - context.measureText(label).width, height - 6);
            lines.forEach(([name, points], index) => {
                const look = style(name, index);
                context.strokeStyle = look.colour;
                context.lineWidth = look.width;
                context.setLineDash(look.dash);
                context.beginPath();
                // No more than what the columns of pixels can show: the least and the most of each.
                const every = Math.max(1, Math.floor(points.length / (2 * (right - left))));
                points.forEach(([x, y], place) => {
                    if (every > 1 && place % every && place !== points.length - 1) return;
                    if (place) context.lineTo(px(x), py(y)); else context.moveTo(px(x), py(y));
                });
                context.stroke();
                if (points.length === 1) { context.beginPath(); context.arc(px(points[0][0]), py(points[0][1]), 2.5, 0, 7); context.fillStyle = look.colour; context.fill(); }
            });
            const names = lines.slice(0, 20).map(([name]) => name).join('|');
            const legend = $(`${chart}-legend`);
            if (legend.dataset.names !== names + isDark.matches) {
                legend.dataset.names = names + isDark.matches;
                legend.replaceChildren(...lines.slice(0, 20).map(([name], index) => {
                    const look = style(name, index), svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), line = document.createElementNS('http://www.w3.org/2000/svg', 'line');
                    svg.setAttribute('viewBox', '0 0 28 16');
                    svg.setAttribute('aria-hidden', 'true');
                    for (const [key, value] of Object.entries({x1: 0, y1: 8, x2: 28, y2: 8, stroke: look.colour, 'stroke-width': look.width * 1.6, 'stroke-dasharray': look.dash.join(' ')})) line.setAttribute(key, value);
                    svg.append(line);
                    return make('li', {}, svg, name);
                }), ...(lines.length > 20 ? [make('li', {textContent: `and ${lines.length - 20} more`})] : []));
            }
            const own = curves[chart].get(GLOBAL) ?? lines[0][1];
            canvas.setAttribute('aria-label', `${chart === 'loss' ? 'Loss' : $('score-title').textContent} over the ${isIndependent ? 'epochs' : 'rounds'}, now ${figure(own[own.length - 1][1])}`);
        };
        // At most once a frame.
        let waiting = false;
        const redraw = () => {
            if (waiting) return;
            waiting = true;
            requestAnimationFrame(() => { waiting = false; draw('loss'); draw('score'); drawPeers(); });
        };
        addEventListener('resize', redraw);
        isDark.addEventListener('change', redraw);

        // Machines
        const lanes = new Map();
        let lanesChanged = true;
        const lane = (peer, changes) => { lanes.set(peer, {...lanes.get(peer), ...changes}); lanesChanged = true; };
        const drawPeers = () => {
            if (!lanesChanged) return;
            lanesChanged = false;
            $('peers').replaceChildren(table(['Name', 'State', {name: 'Rows', number: true}, {name: 'Round', number: true}, {name: 'Epoch', number: true}, {name: 'Loss', number: true}, {name: 'Samples/s', number: true}, 'Note'],
                [...lanes.values()].map(peer => [make('strong', {textContent: peer.name}), peer.state ?? '', peer.rows === undefined ? '–' : whole(peer.rows), peer.round === undefined ? '–' : String(peer.round + 1),
                    peer.epoch ? String(peer.epoch) : '–', figure(peer.loss), peer.samples_per_second ? whole(peer.samples_per_second) : '–', peer.message ?? ''])));
        };

        const point = (name, round, epoch, values) => {
            const x = isIndependent ? epoch : round + epoch / Math.max(1, session.settings.epochs);
            add('loss', name, x, values.loss);
            add('score', name, x, isRegression ? values.r2 : values.accuracy);
        };
        const happened = new Set();
        const tell = notice => {
            const text = notice.message;
            if (happened.has(text)) return;
            happened.add(text);
            const list = $('events');
            list.prepend(make('li', {className: /lost|late|refused|left out|failed/.test(text) ? 'warning' : ''}, make('span', {className: 'muted small', textContent: `${new Date(notice.time).toLocaleTimeString()} `}), text));
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
            $('model').hidden = status !== 'COMPLETED';
        };

        const settingsTable = settings => {
            const shown = {...settings, optimizer: settings.optimizer.name, hidden: settings.hidden.join(', ') || 'none', per_peer: JSON.stringify(settings.per_peer), data: settings.data ? JSON.stringify(settings.data) : undefined,
                class_weight: settings.class_weight ? JSON.stringify(settings.class_weight) : undefined, lr_schedule: settings.lr_schedule?.name ?? settings.lr_schedule};
            $('settings').replaceChildren(table(['Setting', 'Value'], Object.entries(shown).filter(([, value]) => value !== undefined && value !== '' && value !== '{}').map(([name, value]) => [name, String(value)])));
        };

        const load = async () => {
            session = await call('GET', `/sessions/${id}`);
            isIndependent = session.settings.strategy === 'independent';
            isRegression = (session.dataset?.task ?? session.settings.task) === 'regression';
            $('score-title').textContent = isRegression ? 'R²' : 'Accuracy';
            if (session.dataset) $('subject').textContent = `predicting ${session.dataset.target}, ${whole(session.dataset.training_rows)} rows to train on, ${whole(session.dataset.validation_rows)} held out`;
            for (const peer of session.peers) lane(peer.id, peer);
            for (const entry of session.rounds ?? []) {
                const validation = entry.validation;
                if (validation) { add('loss', GLOBAL, entry.round + 1, validation.loss); add('score', GLOBAL, entry.round + 1, isRegression ? validation.r2 : validation.accuracy); }
            }
            for (const each of await call('GET', `/sessions/${id}/metrics?format=json`)) if (each.peer_name) point(each.peer_name, each.round, each.epoch, each);
            $('round').textContent = isIndependent ? '' : `Round ${Math.min(session.round + 1, session.settings.rounds)} of ${session.settings.rounds}.`;
            settingsTable(session.settings);
            $('error').textContent = session.error ?? '';
            $('error').hidden = !session.error;
            show(session.status, session.progress);
            redraw();
            if (session.status === 'COMPLETED') await finish();
        };

        const follow = () => {
            const stream = new EventSource(`/sessions/${id}/events`);
            const take = event => {
                $('away').hidden = true;
                const notice = JSON.parse(event.data);
                if (notice.kind === 'epoch') {
                    point(notice.peer_name, notice.round, notice.epoch, notice);
                    lane(notice.peer_id, {name: notice.peer_name, round: notice.round, epoch: notice.epoch, loss: notice.loss, samples_per_second: notice.samples_per_second, state: 'training', message: ''});
                } else if (notice.kind === 'round') {
                    add('loss', GLOBAL, notice.round + 1, notice.validation_loss);
                    add('score', GLOBAL, notice.round + 1, isRegression ? notice.validation_r2 : notice.validation_accuracy);
                    $('round').textContent = `Round ${Math.min(notice.round + 2, session.settings.rounds)} of ${session.settings.rounds}.`;
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
                $('away').textContent = 'The server is away; this page goes on when it is back.';
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
            }
            if (results.best_peer) parts.push(make('p', {textContent: `Best machine: ${results.best_peer}.`}));
            const most = Math.max(1, ...results.peers.map(peer => peer.trained_samples));
            parts.push(make('h3', {textContent: isIndependent ? 'Leaderboard' : 'Contributions'}), table(['Machine', {name: 'Rows trained', number: true}, 'Share', {name: 'Loss', number: true}, {name: isRegression ? 'R²' : 'Accuracy', number: true}, {name: 'Samples/s', number: true}],
                [...results.peers].sort((a, b) => isIndependent ? (a.loss ?? Infinity) - (b.loss ?? Infinity) : b.trained_samples - a.trained_samples).map(peer => [peer.name, whole(peer.trained_samples),
                    make('progress', {max: most, value: peer.trained_samples, 'aria-label': `share of ${peer.name}`}), figure(peer.loss), isRegression ? figure(peer.r2) : percent(peer.accuracy), peer.samples_per_second ? whole(peer.samples_per_second) : '–'])));
            for (const warning of results.warnings ?? []) parts.push(make('p', {className: 'warning', textContent: `Data: ${warning}`}));
            parts.push(make('p', {className: 'muted', textContent: `${results.rounds} rounds in ${duration(results.seconds)}; seed ${results.seed}.`}));
            $('results').replaceChildren(...parts);
            $('outcome').hidden = false;
            tryIt();
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

        const complain = error => { $('error').textContent = error.message; $('error').hidden = false; };
        $('cancel').addEventListener('click', async () => { if (confirm('Cancel the session? What was trained so far stays.')) try { await call('POST', `/sessions/${id}/cancel`); } catch (error) { complain(error); } });
        $('delete').addEventListener('click', async () => { if (confirm('Delete the session, its data and its model from the server?')) try { await call('DELETE', `/sessions/${id}`); location.assign('/'); } catch (error) { complain(error); } });

        try {
            await load();
            if (!final(session.status)) follow();
            else if (session.dataset?.warnings) for (const text of session.dataset.warnings) tell({time: session.ended_at ?? session.created_at, message: `Data: ${text}`});
        } catch (error) { complain(error); }
        """#

    var routes: [Route] {
        [
            .page(.get, "/app/session/{id}", "The page of a session") { request, context in
                let id = try context.parameters.require("id")
                guard let person = try await pages.person(request) else {
                    return WebPages.redirect(
                        to: "/app/signin?next=/app/session/\(id.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })")
                }
                guard let session = try await documents.session(id: id), session.ownerId == person.id else {
                    return pages.page(
                        request, "problem", title: "Not found", person: person.name, status: .notFound,
                        ["detail": "There is no session '\(id.printable(max: 60))' of yours."])
                }
                return pages.page(
                    request, "session", title: session.settings.name ?? session.filename, person: person.name, scripts: ["session.js"],
                    [
                        "id": session.id, "short": String(session.id.prefix(8)), "name": session.settings.name ?? session.filename,
                        "state": API.TrainingStatus(session).message, "progress": "\(session.progress)",
                    ])
            }
        ]
    }
}
