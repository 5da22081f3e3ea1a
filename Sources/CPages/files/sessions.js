import {$, make, call, whole, percent, figure, duration, words, state, ago, empty, table, reveal, to} from './app.js';
import {Chart} from './chart.js';

const group = [];
const charts = {loss: new Chart($('loss'), $('loss-legend'), {title: 'Validation loss', from: 0, group}), score: new Chart($('score'), $('score-legend'), {title: 'Validation score', group})};
const MOST = 12;

// Two of one name are told apart by when they began.
const title = session => {
    const name = session.name ?? session.settings?.name ?? session.filename;
    return sessions.filter(other => (other.name ?? other.filename) === name).length > 1 ? `${name}, ${new Date(session.created_at).toLocaleString()}` : name;
};
const score = session => !session.metrics ? null : session.task === 'regression' ? session.metrics.r2 : session.metrics.accuracy;
const seconds = session => session.started_at && session.ended_at ? (new Date(session.ended_at) - new Date(session.started_at)) / 1000 : null;
const when = time => make('time', {dateTime: time, title: new Date(time).toLocaleString(), textContent: ago(time)});

// Each column: what it shows and what it is sorted by.
const columns = [
    {name: 'State', shown: session => state(session.status), by: session => words[session.status]},
    {name: 'Score', number: true, shown: session => score(session) === null ? '' : session.task === 'regression' ? `R² ${figure(session.metrics.r2)}` : percent(session.metrics.accuracy), by: score},
    {name: 'Loss', number: true, shown: session => session.metrics ? figure(session.metrics.loss) : '', by: session => session.metrics?.loss ?? null},
    {name: 'Predicts', shown: session => session.target ?? '', by: session => session.target ?? ''},
    {name: 'Tags', shown: session => session.tags?.length ? make('span', {}, ...session.tags.map(tag => make('span', {className: 'tag', textContent: tag}))) : '', by: session => (session.tags ?? []).join()},
    {name: 'Data', shown: session => session.filename, by: session => session.filename, isOff: true},
    {name: 'Strategy', shown: session => session.strategy, by: session => session.strategy, isOff: true},
    {name: 'Machines', shown: session => session.peers.length > 3 ? `${session.peers.length} machines` : session.peers.join(', '), by: session => session.peers.length, isOff: true},
    {name: 'Time', number: true, shown: session => seconds(session) === null ? '' : duration(seconds(session)), by: seconds, isOff: true},
    {name: 'Seed', number: true, shown: session => String(session.seed), by: session => session.seed, isOff: true},
    {name: 'Note', shown: session => session.note ?? '', by: session => session.note ?? '', isOff: true},
    {name: 'Started', shown: session => when(session.created_at), by: session => session.created_at},
];
let kept = null;
try { kept = JSON.parse(localStorage.getItem('cohort columns')); } catch { /* Another page's value, or none may be kept: the usual columns. */ }
const visible = new Set(Array.isArray(kept) ? kept : columns.filter(column => !column.isOff).map(column => column.name));
$('columns').append(...columns.map(column => {
    const box = make('input', {type: 'checkbox', checked: visible.has(column.name)});
    box.addEventListener('change', () => {
        if (box.checked) visible.add(column.name); else visible.delete(column.name);
        try { localStorage.setItem('cohort columns', JSON.stringify([...visible])); } catch { /* For this visit alone. */ }
        list();
    });
    return make('label', {}, box, ` ${column.name}`);
}));

let sessions = [], sorted = {name: 'Started', isUp: false};
const chosen = new Set((new URLSearchParams(location.search).get('of') ?? '').split(',').filter(Boolean));
const list = () => {
    const wanted = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    const searched = session => [session.name, session.filename, session.target, session.strategy, session.note, words[session.status], ...(session.tags ?? []), ...session.peers].join(' ').toLowerCase();
    const found = sessions.filter(session => wanted.every(word => searched(session).includes(word)));
    $('count').textContent = wanted.length ? `${found.length} of ${sessions.length} sessions` : '';
    const by = columns.find(column => column.name === sorted.name)?.by ?? title;
    found.sort((a, b) => {
        const [x, y] = [by(a), by(b)];
        // Those without a value come last, whichever way it is sorted.
        if (x === null || y === null) return (x === null) - (y === null);
        return (x < y ? -1 : x > y ? 1 : 0) * (sorted.isUp ? 1 : -1);
    });
    const head = column => ({...column, sorted: sorted.name === column.name ? sorted.isUp ? 'ascending' : 'descending' : 'none', sort: () => {
        sorted = {name: column.name, isUp: sorted.name === column.name ? !sorted.isUp : !column.number};
        list();
        document.querySelectorAll('button.sort').forEach(button => { if (button.textContent === column.name) button.focus(); });
    }});
    const shown = columns.filter(column => visible.has(column.name));
    $('sessions').replaceChildren(sessions.length === 0
        ? empty('sessions', 'Nothing was trained yet', make('a', {href: to('/app/new'), textContent: 'Start a session'}), ' with a CSV file, or with sample data.')
        : table([head({name: 'Session'}), 'Compare', ...shown.map(head)], found.map(session => {
            const box = make('input', {type: 'checkbox', checked: chosen.has(session.id), 'aria-label': `compare ${title(session)}`});
            box.addEventListener('change', () => {
                if (box.checked) chosen.add(session.id); else chosen.delete(session.id);
                compare();
            });
            return [make('a', {href: to(`/app/session/${session.id}`), textContent: session.name ?? session.filename}), box, ...shown.map(column => column.shown(session))];
        }), 'Sessions'));
};
$('filter').addEventListener('input', list);

const flat = settings => Object.fromEntries(Object.entries({...settings, optimizer: settings.optimizer.name, hidden: settings.hidden.join(', ') || 'none'})
    .filter(([name]) => !['name', 'note'].includes(name)).map(([name, value]) => [name === 'automatic' ? 'chosen by Cohort' : name.replaceAll('_', ' '), inWords(value)]).filter(([, text]) => text !== ''));
const inWords = value => Array.isArray(value) ? value.map(inWords).join(', ').replaceAll('_', ' ') : typeof value === 'object' && value !== null ? Object.entries(value).map(([name, inner]) => [name, inWords(inner)]).filter(([, text]) => text !== '').map(([name, text]) => `${name.replaceAll('_', ' ')}: ${text}`).join('; ') : String(value);

// Of the last choice alone: an answer that comes late is not shown.
let turn = 0;
const compare = async () => {
    const mine = turn += 1, ids = [...chosen].slice(0, MOST);
    history.replaceState(null, '', ids.length ? `?of=${ids.join(',')}` : location.pathname);
    $('problem').hidden = chosen.size <= MOST;
    $('problem').textContent = `The first ${MOST} of ${chosen.size} sessions are compared.`;
    $('compared').hidden = ids.length === 0;
    if (!ids.length) return;
    try {
        const all = await Promise.all(ids.map(id => call('GET', `/sessions/${id}`)));
        const results = await Promise.all(all.map(session => session.status === 'COMPLETED' ? call('GET', `/sessions/${session.id}/results`) : null));
        if (mine !== turn) return;
        const isRegression = all.every(session => session.dataset?.task === 'regression');
        Object.assign(charts.score, {isShare: !isRegression, from: isRegression ? null : .5});
        for (const chart of group) Object.assign(chart, {order: all.map(title)}).clear();
        for (const session of all) {
            let sum = 0;
            for (const round of session.rounds ?? []) {
                sum += round.seconds;
                charts.loss.add(title(session), round.round + 1, round.validation?.loss, sum);
                charts.score.add(title(session), round.round + 1, round.validation?.accuracy ?? round.validation?.r2, sum);
            }
        }
        for (const chart of group) chart.draw();
        const rows = [
            ['State', session => words[session.status]], ['Predicts', session => session.dataset?.target],
            ['Accuracy', (_, r) => r?.metrics.accuracy === undefined ? null : percent(r.metrics.accuracy)], ['R²', (_, r) => r?.metrics.r2 === undefined ? null : figure(r.metrics.r2)],
            ['Validation loss', (_, r) => r ? figure(r.metrics.loss) : null], ['RMSE', (_, r) => r?.evaluation?.rmse === undefined ? null : figure(r.evaluation.rmse)],
            ['Held-out rows', (_, r) => r ? whole(r.metrics.samples) : null], ['Rounds', (_, r) => r ? whole(r.rounds) : null], ['Time', (_, r) => r ? duration(r.seconds) : null],
            ['Machines', session => session.peers.length > 6 ? `${session.peers.length} machines` : session.peers.map(peer => peer.name).join(', ')],
            ['Data', session => session.dataset ? `${session.dataset.filename}, ${session.dataset.object.sha256.slice(0, 8)}` : null]];
        // A measure that none of them has is left out.
        $('metrics').replaceChildren(table(['Measure', ...all.map(title)], rows.map(([name, value]) => [name, ...all.map((session, index) => value(session, results[index]) ?? '–')]).filter(([, ...values]) => values.some(value => value !== '–')), 'Results'));
        const settings = all.map(session => flat(session.settings));
        const names = [...new Set(settings.flatMap(Object.keys))].filter(name => settings.some(each => each[name] !== settings[0][name]));
        $('settings').replaceChildren(all.length < 2 ? make('p', {className: 'muted', textContent: 'Choose another session to compare it with.'})
            : names.length ? table(['Setting', ...all.map(title)], names.map(name => [name, ...settings.map(each => each[name] ?? '–')]), 'Settings that differ') : make('p', {textContent: 'None: all settings are equal.'}));
    } catch (error) { $('problem').textContent = error.message; $('problem').hidden = false; }
};

try {
    sessions = await call('GET', '/sessions?limit=1000');
    for (const id of chosen) if (!sessions.some(session => session.id === id)) chosen.delete(id);
    list();
    await compare();
} catch (error) { $('problem').textContent = error.message; $('problem').hidden = false; $('sessions').replaceChildren(); }
reveal();
