import {call, token, to} from './app.js';

// One event stream for all pages of this browser: over HTTP/1.1 a browser opens six connections to a host, and a stream holds one for as long as it
// is open. The page that has the lock opens it and passes the events on to the others over a channel. A browser gives no locks to pages over plain
// HTTP from another machine: there each page has its own stream, and gives it up while it is hidden.
const KINDS = ['status', 'epoch', 'round', 'peer', 'note', 'peers'];
const page = Math.random().toString(36).slice(2);
// Who is signed in is a part of the name, so that no page hears of another person's sessions.
const name = `cohort ${to('/')} ${token.slice(0, 16)}`;
const isShared = 'locks' in navigator && 'BroadcastChannel' in window;
const channel = isShared ? new BroadcastChannel(name) : null;

// What this page follows, by topic: a session's id, or `pool`.
const followed = new Map();
// What each page wants, where this one holds the stream.
const wanted = new Map();
let source = null, asked = '', isLeader = !isShared, pause = 500;

const take = (kind, text) => {
    const data = JSON.parse(text);
    if (kind === 'peers') followed.get('pool')?.take(data);
    else followed.get(data.session_id)?.take(data);
};
const tell = (what, topics) => { for (const [topic, follower] of followed) if (!topics || topics.includes(topic)) follower[what]?.(); };

const topics = () => [...new Set([...wanted.values()].flat())].sort();
const connect = () => {
    const now = topics();
    if (now.join() === asked && source && source.readyState !== EventSource.CLOSED) return;
    // A stream that brings more than is wanted goes on.
    if (source && source.readyState !== EventSource.CLOSED && now.every(topic => asked.split(',').includes(topic))) return;
    source?.close();
    source = null;
    asked = now.join();
    if (!now.length) return;
    const query = new URLSearchParams();
    if (now.includes('pool')) query.set('peers', 'true');
    const sessions = now.filter(topic => topic !== 'pool');
    if (sessions.length) query.set('sessions', sessions.join(','));
    const stream = source = new EventSource(to(`/events?${query}`));
    for (const kind of KINDS) stream.addEventListener(kind, event => {
        channel?.postMessage({kind, text: event.data});
        take(kind, event.data);
    });
    stream.addEventListener('open', () => {
        pause = 500;
        channel?.postMessage({what: 'missed', topics: now});
        tell('missed', now);
    });
    stream.addEventListener('error', async () => {
        if (stream !== source) return;
        channel?.postMessage({what: 'away', topics: now});
        tell('away', now);
        // The browser tries again by itself, unless it was answered with an error: then a session may be gone.
        if (stream.readyState !== EventSource.CLOSED) return;
        source = null;
        pause = Math.min(pause * 2, 10000);
        setTimeout(async () => {
            try { for (const session of sessions) await call('GET', `/sessions/training-status?session_id=${session}`); } catch (error) {
                if (error.code === 'not_found') for (const list of wanted.values()) for (const session of sessions) if (error.message.includes(session) && list.includes(session)) list.splice(list.indexOf(session), 1);
            }
            connect();
        }, pause);
    });
};

// Pages that open or close together cost one new stream.
let soon = null;
const connectSoon = () => { clearTimeout(soon); soon = setTimeout(connect, 30); };

const want = () => {
    const mine = [...followed.keys()];
    if (isLeader) {
        wanted.set(page, document.hidden && !isShared ? [] : mine);
        if (isShared || !document.hidden) connectSoon(); else { source?.close(); source = null; asked = ''; }
    } else channel.postMessage({page, topics: mine});
};

if (channel) {
    channel.addEventListener('message', ({data}) => {
        if (data.kind) take(data.kind, data.text);
        else if (data.what) tell(data.what, data.topics);
        else if (data.who) want();
        else if (data.page && isLeader) {
            if (data.topics.length) wanted.set(data.page, data.topics); else wanted.delete(data.page);
            connectSoon();
        }
    });
    navigator.locks.request(name, () => new Promise(() => {
        isLeader = true;
        channel.postMessage({who: true});
        want();
    }));
    addEventListener('pagehide', () => { if (!isLeader) channel.postMessage({page, topics: []}); });
} else {
    document.addEventListener('visibilitychange', want);
}

// - take: gets each notice.
// - missed: a stream has begun, and events may have passed before it.
// - away: the server does not answer now; the stream tries again.
// Returns what ends it.
export const followSession = (id, follower) => {
    followed.set(id, follower);
    want();
    // A stream that is open already may have brought an event just before.
    if (!isLeader) follower.missed();
    return () => { followed.delete(id); want(); };
};

// - peers: gets the peers that are visible, whenever one of them changes.
export const followPool = ({peers, missed}) => {
    const known = new Map();
    followed.set('pool', {
        take: change => {
            if (change.all) known.clear();
            for (const peer of change.changed) known.set(peer.id, peer);
            for (const id of change.gone ?? []) known.delete(id);
            peers([...known.values()].sort((a, b) => a.name.localeCompare(b.name)));
        },
        missed,
    });
    want();
};
