export const $ = id => document.getElementById(id);

// An element, its properties (attributes where it has none of that name) and its children.
export const make = (name, properties = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
        if (key in node && key !== 'list') node[key] = value; else node.setAttribute(key, value);
    }
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
};

const csrf = document.querySelector('meta[name=csrf-token]').content;
const base = document.documentElement.dataset.base;
// A path of this server, below the path that a proxy has put before it.
export const to = path => base + path;

// The API, as the person who is signed in. What it refuses is an Error with the server's sentence.
export const call = async (method, path, {body, form, signal} = {}) => {
    const headers = {Accept: 'application/json'};
    if (method !== 'GET') headers['X-CSRF-Token'] = csrf;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    let answer;
    try {
        answer = await fetch(to(path), {method, headers, body: form ?? (body === undefined ? undefined : JSON.stringify(body)), signal, credentials: 'same-origin'});
    } catch (error) {
        if (error.name === 'AbortError') throw error;
        throw new Error('the server does not answer: is it running, and are you on its network?');
    }
    if (answer.status === 401) { location.assign(to('/app/signin?next=' + encodeURIComponent(location.pathname.slice(base.length)))); }
    const text = await answer.text();
    const json = (answer.headers.get('content-type') ?? '').includes('json') && text ? JSON.parse(text) : text;
    if (!answer.ok) {
        const error = new Error(json.detail ?? `the server answered ${answer.status}`);
        error.code = json.code;
        throw error;
    }
    return json;
};
export const token = csrf;

export const whole = value => Math.round(value).toLocaleString('en');
export const percent = value => value === undefined || value === null ? '–' : `${(value * 100).toFixed(1)} %`;
export const figure = value => value === undefined || value === null ? '–' : Math.abs(value) >= 1000 ? whole(value) : Number(value.toPrecision(4)).toString();
export const bytes = value => {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
};
export const duration = seconds => seconds < .001 ? 'less than 1 ms' : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : seconds < 120 ? `${seconds.toFixed(1)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
export const words = {PENDING: 'Getting ready', RUNNING: 'Training in progress', COMPLETED: 'Training completed', FAILED: 'Training failed', CANCELLED: 'Training cancelled',
    ONLINE: 'online, free', TRAINING: 'training', OFFLINE: 'offline'};
export const tone = status => ({COMPLETED: 'good', ONLINE: 'good', FAILED: 'problem', CANCELLED: 'warning'}[status] ?? '');

export const table = (heads, rows) => make('div', {className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Table'}, make('table', {},
    make('thead', {}, make('tr', {}, ...heads.map(head => make('th', {scope: 'col', className: head.number ? 'number' : '', textContent: head.name ?? head})))),
    make('tbody', {}, ...rows.map(cells => make('tr', {}, ...cells.map((cell, index) => {
        const data = make('td', {className: heads[index]?.number ? 'number' : ''});
        data.append(cell ?? '–');
        return data;
    }))))));

// Copies the text of the element that data-copy names.
for (const button of document.querySelectorAll('button[data-copy]')) {
    button.addEventListener('click', async () => {
        const place = $(button.dataset.copy);
        // Over plain HTTP a browser lets no script near the clipboard: the text is marked, to be copied by hand.
        if (!navigator.clipboard) { getSelection().selectAllChildren(place); button.textContent = 'Marked: press Ctrl-C'; return; }
        await navigator.clipboard.writeText(place.textContent.trim());
        button.textContent = 'Copied';
    });
}
