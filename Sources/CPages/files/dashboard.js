import {$, make, call, whole, percent, bytes, words, tone, table, to} from './app.js';

const since = time => {
    const seconds = (Date.now() - new Date(time)) / 1000;
    return seconds < 90 ? 'just now' : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : seconds < 129600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
};
const state = status => make('span', {className: `state ${tone(status)}`, textContent: words[status] ?? status});

let drawn = {};
// Unchanged parts are not drawn again, so that a screen reader announces changes alone.
const draw = (id, value, content) => {
    const text = JSON.stringify(value);
    if (drawn[id] === text) return;
    drawn[id] = text;
    $(id).replaceChildren(...content());
};

const drawPeers = peers => {
    const there = peers.filter(peer => peer.status !== 'OFFLINE' || Date.now() - new Date(peer.last_seen) < 86400000);
    draw('peers', there.map(peer => ({...peer, last_seen: peer.status === 'OFFLINE' ? since(peer.last_seen) : ''})), () => there.length === 0
        ? [make('p', {textContent: 'No machine is here yet. Add one:'})]
        : [table(['Name', 'State', 'Engine', {name: 'Cores', number: true}, {name: 'Memory', number: true}, {name: 'Samples/s', number: true}, 'Whose'],
            there.map(peer => [make('strong', {textContent: peer.name}), peer.status === 'OFFLINE' ? make('span', {}, state(peer.status), ` (${since(peer.last_seen)})`) : state(peer.status),
                `${peer.engine}, ${peer.device}`, String(peer.cores), bytes(peer.memory_bytes), whole(peer.samples_per_second),
                peer.mine ? (peer.serve === 'everyone' ? 'mine, shared with everyone' : 'mine') : 'shared by another user']))]);
    if (!there.some(peer => peer.status !== 'OFFLINE')) $('join').open = true;
};

const drawSessions = sessions => draw('sessions', sessions, () => sessions.length === 0
    ? [make('p', {}, 'Nothing was trained yet. ', make('a', {href: to('/app/new'), textContent: 'Start a session'}), ' with a CSV.')]
    : [table(['Session', 'State', {name: 'Score', number: true}, 'Predicts', 'Machines', 'Started'], sessions.map(session => [
        make('span', {}, make('a', {href: to(`/app/session/${session.id}`), textContent: session.name ?? session.filename}), make('span', {className: 'muted small', textContent: ` ${session.id.slice(0, 8)}`})),
        session.status === 'RUNNING'
            ? make('span', {}, state(session.status), make('progress', {max: 1, value: session.progress, 'aria-label': 'progress'}))
            : state(session.status),
        !session.metrics ? '–' : session.task === 'regression' ? `R² ${session.metrics.r2?.toFixed(3) ?? '–'}` : percent(session.metrics.accuracy),
        session.target ?? '–', session.peers.join(', '), new Date(session.created_at).toLocaleString()]))]);

const look = async () => {
    try {
        const [peers, sessions] = await Promise.all([call('GET', '/peers'), call('GET', '/sessions?limit=50')]);
        drawPeers(peers);
        drawSessions(sessions);
    } catch (error) {
        drawn = {};
        $('sessions').replaceChildren(make('p', {className: 'problem', role: 'alert', textContent: `${error.message} Trying again.`}));
    }
};
await look();
// The API has no stream of the pool.
setInterval(() => { if (!document.hidden) look(); }, 3000);
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });

$('make-token').addEventListener('click', async () => {
    const problem = $('token-problem');
    problem.hidden = true;
    try {
        const {token} = await call('POST', '/auth/tokens', {body: {name: 'from the dashboard'}});
        for (const id of ['join-line', 'install-line']) if ($(id)) $(id).textContent = $(id).textContent.replace('TOKEN', token);
        $('make-token').disabled = true;
    } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
    }
});
