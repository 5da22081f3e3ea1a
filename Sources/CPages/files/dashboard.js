import {$, make, call, whole, percent, bytes, state, ago, empty, icon, table, reveal, to} from './app.js';
import {followPool} from './live.js';

const drawn = {};
// Unchanged parts are not drawn again, so that a screen reader announces changes alone.
const draw = (id, value, content) => {
    const text = JSON.stringify(value);
    if (drawn[id] === text) return;
    drawn[id] = text;
    $(id).replaceChildren(...content());
};

const tile = (name, value, note) => make('div', {}, make('dt', {textContent: name}), make('dd', {textContent: value}, make('small', {textContent: note})));

const drawPeers = peers => {
    const there = peers.filter(peer => peer.status !== 'OFFLINE' || Date.now() - new Date(peer.last_seen) < 86400000);
    const online = there.filter(peer => peer.status !== 'OFFLINE'), free = online.filter(peer => peer.status === 'ONLINE');
    draw('tiles', online.map(peer => [peer.status, peer.cores, peer.samples_per_second]), () => [
        tile('Machines online', whole(online.length), online.length === free.length ? 'all free' : `${free.length} free`),
        tile('Cores', whole(online.reduce((sum, peer) => sum + peer.cores, 0)), 'of all machines'),
        tile('Memory', bytes(online.reduce((sum, peer) => sum + peer.memory_bytes, 0)), 'of all machines'),
        tile('Speed', whole(online.reduce((sum, peer) => sum + peer.samples_per_second, 0)), 'samples a second, small net')]);
    draw('peers', there.map(peer => ({...peer, last_seen: peer.status === 'OFFLINE' ? ago(peer.last_seen) : ''})), () => there.length === 0
        ? [empty('machine', 'No machine is here yet', 'Add one below: this computer, or any other that reaches this server.')]
        : [table(['Name', 'State', 'Engine', {name: 'Cores', number: true}, {name: 'Memory', number: true}, {name: 'Samples/s', number: true}, 'Owner'],
            there.map(peer => [make('strong', {textContent: peer.name}), peer.status === 'OFFLINE' ? make('span', {}, state(peer.status), make('span', {className: 'muted small', textContent: ` ${ago(peer.last_seen)}`})) : state(peer.status),
                `${peer.engine}, ${peer.device}`, String(peer.cores), bytes(peer.memory_bytes), whole(peer.samples_per_second),
                peer.mine ? (peer.serve === 'everyone' ? 'you, shared with everyone' : 'you') : 'another user']), 'Machines')]);
    if (!online.length) $('join').open = true;
};

const drawSessions = sessions => draw('sessions', sessions, () => sessions.length === 0
    ? [empty('sessions', 'Nothing was trained yet', make('a', {href: to('/app/new'), textContent: 'Start a session'}), ' with a CSV file, or with sample data.')]
    : [table(['Session', 'State', {name: 'Score', number: true}, 'Predicts', 'Machines', 'Started'], sessions.map(session => [
        make('a', {href: to(`/app/session/${session.id}`), textContent: session.name ?? session.filename}),
        session.status === 'RUNNING'
            ? make('span', {}, state(session.status), make('progress', {max: 1, value: session.progress, 'aria-label': 'progress'}))
            : state(session.status),
        !session.metrics ? '' : session.task === 'regression' ? `R² ${session.metrics.r2?.toFixed(3) ?? '–'}` : percent(session.metrics.accuracy),
        session.target ?? '', session.peers.length > 4 ? `${session.peers.length} machines` : session.peers.join(', '), make('time', {dateTime: session.created_at, title: new Date(session.created_at).toLocaleString(), textContent: ago(session.created_at)})]), 'Sessions')]);

if (location.hash === '#join') $('join').open = true;

let retry = null;
const look = async () => {
    clearTimeout(retry);
    try { drawSessions(await call('GET', '/sessions?limit=12')); } catch (error) {
        delete drawn.sessions;
        $('sessions').replaceChildren(make('p', {className: 'problem', role: 'alert', textContent: `${error.message} Trying again.`}));
        retry = setTimeout(look, 3000);
    }
};
// The pool changes when a session starts, moves on or ends: the sessions are read again then, at most once a second.
let isWaiting = false;
const lookSoon = () => {
    if (isWaiting) return;
    isWaiting = true;
    setTimeout(() => { isWaiting = false; look(); }, 1000);
};
await look();
followPool({peers: peers => { drawPeers(peers); reveal(); lookSoon(); }, missed: lookSoon});

$('make-token').addEventListener('click', async () => {
    const problem = $('token-problem');
    problem.hidden = true;
    try {
        const {token} = await call('POST', '/auth/tokens', {body: {name: 'from the dashboard'}});
        for (const id of ['join-line', 'install-line']) if ($(id)) $(id).textContent = $(id).textContent.replace('TOKEN', token);
        $('make-token').disabled = true;
        $('token-said').textContent = 'The token is in the command below. It is shown once.';
    } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
    }
});
