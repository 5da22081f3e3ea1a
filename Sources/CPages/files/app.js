export const $ = id => document.getElementById(id);

// An element, its properties (attributes where it has none of that name) and its children.
export const make = (name, properties = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
        if (key in node && key !== 'list') node[key] = value; else node.setAttribute(key, value);
    }
    node.append(...children.filter(child => child !== null && child !== undefined && child !== false));
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

// A sentence of the server in the words of the pages: it names options of the command line, which stand here as lists and fields.
const roles = {ignore: 'do not use', use: 'use it', number: 'a number', category: 'a category'};
export const plain = text => text
    .replace(/--target chooses another/g, 'choose another above')
    .replace(/--(ignore|use|number|category) ('[^']*'|[^\s,;)]+)/g, (_, option) => `\u201c${roles[option]}\u201d in its row`)
    .replace(/--([a-z][a-z-]*) ([a-z_]+)\b/g, (_, name, value) => `the setting \u201c${name.replaceAll('-', ' ')}: ${value}\u201d`)
    .replace(/--([a-z][a-z-]*)/g, (_, name) => `the setting \u201c${name.replaceAll('-', ' ')}\u201d`);

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
const tones = {COMPLETED: 'good', ONLINE: 'free', FAILED: 'problem', CANCELLED: 'warning', RUNNING: 'busy', TRAINING: 'busy', PENDING: 'busy'};
export const tone = status => tones[status] ?? '';
export const state = (status, text) => make('span', {className: `state ${tone(status)}`, textContent: text ?? words[status] ?? status});
export const ago = time => {
    const seconds = (Date.now() - new Date(time)) / 1000;
    return seconds < 90 ? 'just now' : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : seconds < 129600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
};

const SVG = 'http://www.w3.org/2000/svg';
// An element of SVG and its attributes.
export const draw = (name, attributes = {}, ...children) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
};
export const icon = name => draw('svg', {class: 'icon', 'aria-hidden': 'true'}, draw('use', {href: `${document.documentElement.dataset.assets}/icons.svg#${name}`}));

// What an empty place says: what would stand there, and the next step.
export const empty = (sign, title, ...next) => make('div', {className: 'empty'}, icon(sign), make('strong', {textContent: title}), make('p', {}, ...next));

// On a phone each row becomes a card, with the column's name before each cell; a dense table of short numbers stays one. `name` says what it shows.
export const table = (heads, rows, name = 'Table', {isDense = false} = {}) => {
    const body = make('tbody', {role: 'rowgroup'}, ...rows.map(cells => make('tr', {role: 'row'}, ...cells.map((cell, index) => {
        const data = make('td', {role: 'cell', className: `${heads[index]?.number ? 'number' : ''}${cell === '' || cell === null || cell === undefined ? ' none' : ''}`, 'data-label': heads[index]?.name ?? heads[index] ?? ''});
        data.append(make('span', {}, cell ?? '–'));
        return data;
    }))));
    return make('div', {className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': name}, make('table', {className: isDense ? '' : 'cards', role: 'table'},
        make('thead', {role: 'rowgroup'}, make('tr', {role: 'row'}, ...heads.map(head => make('th', {scope: 'col', role: 'columnheader', className: head.number ? 'number' : '', ...(head.sorted ? {'aria-sort': head.sorted} : {})},
            head.sort ? make('button', {className: 'sort', type: 'button', textContent: head.name, onclick: head.sort}) : head.name ?? head)))), body));
};

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

// Gives the person a file.
// What the first answers fill is invisible until they are there (or a second has passed), so that nothing jumps.
export const reveal = () => { for (const part of document.querySelectorAll('[data-waits]')) delete part.dataset.waits; };
export const save = (blob, name) => {
    const link = make('a', {href: URL.createObjectURL(blob), download: name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};
