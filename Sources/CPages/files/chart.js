import {make, draw as element, icon, figure, duration, save} from './app.js';

const hues = [190, 28, 265, 330, 140, 55, 220, 0, 95, 300];
const dashes = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
const isDark = matchMedia('(prefers-color-scheme: dark)');
const colour = name => getComputedStyle(document.body).getPropertyValue(name).trim() || 'gray';

// A line of a chart as its place among them gives it: the hues first, then the dashes.
export const look = index => ({colour: `hsl(${hues[index % hues.length]} 70% ${isDark.matches ? 66 : 36}%)`, dash: dashes[Math.floor(index / hues.length) % dashes.length]});

// Makes room for the pixels of a canvas as it is shown.
const begin = canvas => {
    const context = canvas.getContext('2d'), scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return {context, width, height};
};

// What draws on a canvas and what writes an SVG have the same three verbs.
const canvasPen = context => ({
    line(points, {stroke, width = 1, dash = [], alpha = 1}) {
        context.globalAlpha = alpha;
        context.strokeStyle = stroke;
        context.lineWidth = width;
        context.setLineDash(dash);
        context.lineJoin = 'round';
        context.beginPath();
        for (let at = 0; at < points.length; at += 2) if (at) context.lineTo(points[at], points[at + 1]); else context.moveTo(points[at], points[at + 1]);
        context.stroke();
        context.globalAlpha = 1;
    },
    dot(x, y, radius, fill) { context.beginPath(); context.arc(x, y, radius, 0, 7); context.fillStyle = fill; context.fill(); },
    text(text, x, y, fill, anchor = 'start') {
        context.font = '12px system-ui, sans-serif';
        context.textAlign = anchor === 'middle' ? 'center' : anchor;
        context.fillStyle = fill;
        context.fillText(text, x, y);
    },
});
const svgPen = root => ({
    line(points, {stroke, width = 1, dash = [], alpha = 1}) {
        const pairs = [];
        for (let at = 0; at < points.length; at += 2) pairs.push(`${points[at].toFixed(1)},${points[at + 1].toFixed(1)}`);
        root.append(element('polyline', {points: pairs.join(' '), fill: 'none', stroke, 'stroke-width': width, 'stroke-opacity': alpha, ...(dash.length ? {'stroke-dasharray': dash.join(' ')} : {})}));
    },
    dot(cx, cy, r, fill) { root.append(element('circle', {cx, cy, r, fill})); },
    text(text, x, y, fill, anchor = 'start') { root.append(element('text', {x, y, fill, 'font-size': 12, 'font-family': 'system-ui, sans-serif', 'text-anchor': anchor}, text)); },
});

// About `count` round numbers from least to most.
const ticks = (least, most, count) => {
    const rough = (most - least) / count, power = 10 ** Math.floor(Math.log10(rough)), step = power * ([1, 2, 2.5, 5, 10].find(each => each * power >= rough) ?? 10);
    const found = [];
    for (let at = Math.ceil(least / step - 1e-9) * step; at <= most + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
    return found;
};
const powers = (least, most) => {
    const found = [];
    for (let power = Math.floor(Math.log10(least)); 10 ** power <= most; power += 1) for (const digit of most / least > 1000 ? [1] : [1, 2, 5]) if (digit * 10 ** power >= least && digit * 10 ** power <= most) found.push(digit * 10 ** power);
    return found;
};

// Points [x, y] around the line y = 0.
export const scatter = (canvas, points, along, up) => {
    const {context, width, height} = begin(canvas), pen = canvasPen(context), ink = colour('--muted'), line = colour('--line');
    const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
    const [least, most] = [Math.min(...xs), Math.max(...xs)], reach = Math.max(...ys.map(Math.abs)) || 1;
    const left = 62, right = width - 8, top = 8, bottom = height - 24;
    const px = x => left + (most > least ? (x - least) / (most - least) : .5) * (right - left), py = y => (top + bottom) / 2 - y / reach * (bottom - top) / 2;
    for (const y of ticks(-reach, reach, 4)) {
        pen.line([left, py(y), right, py(y)], {stroke: y ? line : colour('--edge')});
        pen.text(figure(y), left - 8, py(y) + 4, ink, 'end');
    }
    if (most > least) for (const x of ticks(least, most, Math.max(2, Math.floor(width / 110)))) pen.text(figure(x), px(x), height - 6, ink, 'middle');
    for (const [x, y] of points) pen.dot(px(x), py(y), 2.5, `hsl(${hues[0]} 70% ${isDark.matches ? 68 : 36}% / .6)`);
    canvas.title = `${up} by ${along}`;
};

const MOST_NAMED = 20, MOST_IN_TIP = 12;

// Lines over rounds or over time, each a name and its points, with a legend and tools: values on hover, by touch or with the arrow keys; zoom by
// dragging; a logarithmic axis; smoothing; a picture, an SVG and a CSV of what is shown; full screen. Charts of one `group` show one place together.
export class Chart {
    // - strong: the name of the line that is drawn last, and thicker.
    // - from, to: values that the upright axis shows at least.
    constructor(canvas, legend, {title, strong = null, from = null, to = null, isShare = false, along = 'round', group = []}) {
        Object.assign(this, {canvas, legend, title, strong, from, to, isShare, along, group, lines: new Map(), order: [], best: null, byTime: false, isLog: false, smoothing: 0, range: null, at: null, shown: []});
        group.push(this);
        this.overlay = make('canvas', {className: 'overlay', 'aria-hidden': 'true'});
        this.tip = make('div', {className: 'tip', hidden: true});
        this.box = make('div', {className: 'chart'});
        canvas.replaceWith(this.box);
        this.box.append(canvas, this.overlay, this.tip);
        canvas.tabIndex = 0;
        this.makeTools();
        this.listen();
        const redraw = () => requestAnimationFrame(() => this.draw());
        new ResizeObserver(redraw).observe(canvas);
        isDark.addEventListener('change', redraw);
    }

    clear() { this.lines.clear(); this.best = null; }

    // Points come in order; one of an x that was there before replaces it. `seconds` is the time since the start.
    add(name, x, y, seconds = null) {
        if (y === undefined || y === null || !Number.isFinite(y)) return;
        if (!this.lines.has(name)) this.lines.set(name, []);
        const points = this.lines.get(name), last = points[points.length - 1];
        if (last && last[0] >= x) { if (last[0] === x) last[1] = y; return; }
        points.push([x, y, seconds]);
    }

    style(name, index) {
        if (name === this.strong) return {colour: colour('--front'), dash: [], width: 2.5};
        // Colours go by machine, in whatever order their points come.
        const place = this.order.indexOf(name), found = look(place >= 0 ? place : index);
        return {colour: found.colour, dash: this.lines.size > 25 ? [] : found.dash, width: 1.5};
    }

    x(point) { return this.byTime ? point[2] : point[0]; }

    // The points in the order of the axis, smoothed as the person chose: an exponential mean without its bias at the beginning.
    points(name) {
        let points = this.lines.get(name).filter(point => this.x(point) !== null && (!this.isLog || point[1] > 0));
        if (this.smoothing > 0) {
            let mean = 0, weight = 1;
            points = points.map(([x, y, seconds]) => {
                mean = mean * this.smoothing + (1 - this.smoothing) * y;
                weight *= this.smoothing;
                return [x, mean / (1 - weight), seconds];
            });
        }
        return points;
    }

    say(value) { return this.isShare ? `${(value * 100).toFixed(1)} %` : figure(Number(value.toPrecision(4))); }
    sayX(x) { return this.byTime ? duration(Math.max(0, x)) : `${this.along} ${Number.isInteger(x) ? x : x.toFixed(2)}`; }

    draw() {
        if (!this.canvas.clientWidth) return;
        const {context, width, height} = begin(this.canvas);
        this.paint(canvasPen(context), width, height);
        this.explain();
        this.point();
    }

    paint(pen, width, height) {
        const ink = colour('--muted'), grid = colour('--line');
        const names = [...this.lines.keys()].sort((a, b) => (a === this.strong) - (b === this.strong));
        this.shown = names.map((name, index) => ({name, points: this.points(name), ...this.style(name, index)})).filter(line => line.points.length);
        if (!this.shown.length) { pen.text('Nothing was measured yet.', 8, 24, ink); this.scale = null; return; }
        let first = Infinity, end = -Infinity, least = Infinity, most = -Infinity;
        for (const {points} of this.shown) {
            first = Math.min(first, this.x(points[0]));
            end = Math.max(end, this.x(points[points.length - 1]));
        }
        if (this.range) [first, end] = this.range;
        for (const {points} of this.shown) for (const point of points) {
            if (this.x(point) < first || this.x(point) > end) continue;
            if (point[1] < least) least = point[1];
            if (point[1] > most) most = point[1];
        }
        if (least > most) [least, most] = [0, 1];
        // A share's axis shows where the differences are: 94 against 97 %, not 50 to 100.
        if (!this.range && !this.isLog && this.from !== null && (!this.isShare || least < this.from + .1)) least = Math.min(this.from, least);
        if (!this.range && !this.isLog && this.to !== null) most = Math.max(this.to, most);
        if (most === least) most = least + (Math.abs(least) || 1) * .1;
        if (end === first) end = first + 1;
        const left = 52, right = width - 10, top = 10, bottom = height - 26;
        const scale = this.isLog ? Math.log10 : value => value, [low, high] = [scale(least), scale(most)];
        const px = x => left + (x - first) / (end - first) * (right - left), py = y => bottom - (scale(y) - low) / (high - low || 1) * (bottom - top);
        this.scale = {left, right, top, bottom, first, end, px, py};
        for (const y of this.isLog ? powers(least, most) : ticks(least, most, 5)) {
            pen.line([left, py(y), right, py(y)], {stroke: grid});
            pen.text(this.isShare ? `${Number((y * 100).toFixed(2))} %` : figure(y), left - 7, py(y) + 4, ink, 'end');
        }
        const marks = ticks(first, end, Math.max(2, Math.floor((right - left) / 90))).filter(x => this.byTime || Number.isInteger(x) || end - first < 3);
        marks.forEach((x, index) => pen.text(this.byTime ? duration(x).replace('less than 1 ms', '0 s') : index ? figure(x) : `${this.along} ${figure(x)}`, px(x), height - 7, ink, index ? px(x) > right - 20 ? 'end' : 'middle' : 'start'));
        for (const line of this.shown) {
            const {points} = line;
            // No more points than there are pixels to show them, and of many lines fewer.
            const every = Math.max(1, this.shown.length > 25 ? Math.ceil(points.length * this.shown.length / 4000) : Math.floor(points.length / (2 * (right - left))));
            const path = [];
            points.forEach((point, place) => {
                const x = this.x(point);
                // One point beyond each edge, so that the line leaves the picture.
                if (every > 1 && place % every && place !== points.length - 1) return;
                if (x < first && points[place + 1] && this.x(points[place + 1]) < first || x > end && points[place - 1] && this.x(points[place - 1]) > end) return;
                path.push(Math.min(Math.max(px(x), left), right), Math.min(Math.max(py(point[1]), top), bottom));
            });
            pen.line(path, {stroke: line.colour, width: line.width, dash: line.dash});
            if (path.length === 2) pen.dot(path[0], path[1], 3, line.colour);
        }
        // The best round, on the strong line.
        const found = this.best === null ? null : this.shown.find(line => line.name === this.strong)?.points.find(point => point[0] === this.best);
        if (found && this.x(found) >= first && this.x(found) <= end) {
            const x = px(this.x(found)), good = colour('--good');
            pen.line([x, top, x, bottom], {stroke: good, dash: [3, 3]});
            pen.dot(x, py(found[1]), 4.5, good);
            pen.text(`best: ${this.along} ${this.best}`, x > (left + right) / 2 ? x - 8 : x + 8, found[1] > (least + most) / 2 ? bottom - 8 : top + 12, good, x > (left + right) / 2 ? 'end' : 'start');
        }
    }

    explain() {
        const names = this.shown.slice(0, MOST_NAMED).map(line => line.name).join('|') + isDark.matches + this.order.join('|') + this.shown.length;
        if (this.legend.dataset.names !== names) {
            this.legend.dataset.names = names;
            this.legend.replaceChildren(...this.shown.slice(0, MOST_NAMED).map(line => make('li', {}, stroke(line), line.name)),
                ...(this.shown.length > MOST_NAMED ? [make('li', {textContent: `and ${this.shown.length - MOST_NAMED} more`})] : []));
        }
        const line = this.shown.find(line => line.name === this.strong) ?? this.shown[0];
        this.about ??= this.canvas.getAttribute('aria-label');
        if (line) this.canvas.setAttribute('aria-label', `${this.about}, now ${figure(line.points[line.points.length - 1][1])}`);
    }

    // The values of all lines at one place, in this chart and in those of its group.
    point() {
        const {context, width, height} = begin(this.overlay), scale = this.scale;
        this.tip.hidden = true;
        if (!scale) return;
        if (this.drag) {
            context.fillStyle = colour('--accent');
            context.globalAlpha = .15;
            const [a, b] = [this.drag[0], this.drag[1]].sort((one, other) => one - other);
            context.fillRect(a, scale.top, b - a, scale.bottom - scale.top);
            context.globalAlpha = 1;
        }
        if (this.at === null) return;
        const near = this.shown.map(line => ({line, point: nearest(line.points, this.at, point => this.x(point))}));
        const place = near.reduce((best, each) => Math.abs(this.x(each.point) - this.at) < Math.abs(best - this.at) ? this.x(each.point) : best, this.x(near[0].point));
        const x = scale.px(place);
        if (x < scale.left - 1 || x > scale.right + 1) return;
        const pen = canvasPen(context);
        pen.line([x, scale.top, x, scale.bottom], {stroke: colour('--edge')});
        const named = near.filter(({point, line}) => place <= this.x(line.points[line.points.length - 1]) + 1e-9 || point === line.points[line.points.length - 1]).sort((a, b) => b.point[1] - a.point[1]);
        for (const {line, point} of named) pen.dot(scale.px(this.x(point)), scale.py(point[1]), line.name === this.strong ? 4 : 2.5, line.colour);
        const first = named.filter(({line}) => line.name === this.strong), rest = named.filter(({line}) => line.name !== this.strong);
        this.tip.replaceChildren(make('b', {textContent: this.sayX(place)}), ...[...first, ...rest].slice(0, MOST_IN_TIP).map(({line, point}) => make('div', {}, stroke(line), `${this.say(point[1])}  `, make('span', {className: 'muted', textContent: line.name}))),
            named.length > MOST_IN_TIP && make('div', {className: 'muted', textContent: `and ${named.length - MOST_IN_TIP} more`}));
        this.tip.hidden = false;
        const wide = this.tip.offsetWidth, high = this.tip.offsetHeight;
        this.tip.style.left = `${Math.max(0, Math.min(x > width / 2 ? x - wide - 12 : x + 12, width - wide))}px`;
        this.tip.style.top = `${Math.max(0, Math.min(scale.top + 4, height - high))}px`;
    }

    show(at) {
        for (const chart of this.group) {
            chart.at = at;
            if (chart.isPointing) continue;
            chart.isPointing = true;
            requestAnimationFrame(() => { chart.isPointing = false; chart.point(); });
        }
    }

    value(event) {
        const {left, right, first, end} = this.scale, x = event.clientX - this.canvas.getBoundingClientRect().left;
        return first + (Math.min(Math.max(x, left), right) - left) / (right - left) * (end - first);
    }

    listen() {
        const {canvas} = this, place = event => event.clientX - canvas.getBoundingClientRect().left;
        canvas.addEventListener('pointermove', event => {
            if (!this.scale) return;
            if (this.drag) this.drag[1] = Math.min(Math.max(place(event), this.scale.left), this.scale.right);
            this.show(this.value(event));
        });
        canvas.addEventListener('pointerdown', event => {
            if (!this.scale) return;
            if (event.pointerType === 'mouse' && event.button === 0) { this.drag = [place(event), place(event)]; canvas.setPointerCapture(event.pointerId); }
            this.show(this.value(event));
        });
        canvas.addEventListener('pointerup', event => {
            if (!this.drag || !this.scale) return;
            const [a, b] = this.drag, {left, right, first, end} = this.scale;
            this.drag = null;
            if (Math.abs(a - b) > 8) this.zoom([Math.min(a, b), Math.max(a, b)].map(x => first + (Math.min(Math.max(x, left), right) - left) / (right - left) * (end - first)));
            else this.show(this.value(event));
        });
        canvas.addEventListener('pointercancel', () => { this.drag = null; this.show(null); });
        canvas.addEventListener('pointerleave', () => { if (!this.drag) this.show(null); });
        canvas.addEventListener('blur', () => this.show(null));
        canvas.addEventListener('dblclick', () => this.zoom(null));
        canvas.addEventListener('keydown', event => {
            if (!this.scale || !['ArrowLeft', 'ArrowRight', 'Escape'].includes(event.key)) return;
            event.preventDefault();
            if (event.key === 'Escape') { this.show(null); this.zoom(null); return; }
            const {first, end} = this.scale, step = this.byTime ? (end - first) / 100 : 1;
            this.show(Math.min(end, Math.max(first, (this.at ?? (event.key === 'ArrowRight' ? first - step : end + step)) + (event.key === 'ArrowRight' ? step : -step))));
        });
    }

    zoom(range) {
        for (const chart of this.group) {
            chart.range = range;
            chart.whole.hidden = range === null;
            chart.draw();
        }
    }

    // Charts of a group have one axis, so that one place is the same in all.
    showByTime(isOn) {
        for (const chart of this.group) {
            Object.assign(chart, {byTime: isOn, range: null, at: null});
            chart.whole.hidden = true;
            chart.timeButton.setAttribute('aria-pressed', isOn);
            chart.draw();
        }
    }

    makeTools() {
        const button = (text, title, act, properties = {}) => {
            const made = make('button', {type: 'button', className: 'tool', title, ...properties}, text);
            made.addEventListener('click', () => act(made));
            return made;
        };
        const toggle = (text, title, change) => button(text, title, made => {
            const isOn = made.getAttribute('aria-pressed') !== 'true';
            made.setAttribute('aria-pressed', isOn);
            change(isOn);
            this.draw();
        }, {'aria-pressed': 'false'});
        this.whole = button('Whole', 'Show the whole range again', () => this.zoom(null), {hidden: true});
        const smooth = make('input', {type: 'range', min: 0, max: .95, step: .05, value: 0});
        smooth.addEventListener('input', () => { this.smoothing = Number(smooth.value); this.draw(); });
        const full = button(icon('expand'), 'Full screen', () => document.fullscreenElement ? document.exitFullscreen() : this.box.closest('.card').requestFullscreen(), {'aria-label': `${this.title}: full screen`});
        const name = () => `${document.title.split(' · ')[0]}-${this.title}`.toLowerCase().replace(/[^a-z0-9]+/g, '-');
        this.tools = make('div', {className: 'tools', role: 'group', 'aria-label': `${this.title}: how it is shown`},
            this.timeButton = button('Time', 'Over time, not rounds', made => this.showByTime(made.getAttribute('aria-pressed') !== 'true'), {'aria-pressed': 'false'}), toggle('Log', 'Logarithmic axis', isOn => { this.isLog = isOn; }),
            make('label', {}, 'Smooth', smooth), this.whole,
            button('PNG', 'Save as a picture', () => this.png(blob => save(blob, `${name()}.png`)), {'aria-label': `${this.title}: save as PNG`}),
            button('SVG', 'Save as SVG', () => save(new Blob([this.svg()], {type: 'image/svg+xml'}), `${name()}.svg`), {'aria-label': `${this.title}: save as SVG`}),
            button('CSV', 'Save the points', () => save(new Blob([this.csv()], {type: 'text/csv'}), `${name()}.csv`), {'aria-label': `${this.title}: save as CSV`}), full);
        if (!document.fullscreenEnabled) full.hidden = true;
        this.box.before(this.tools);
    }

    png(take) {
        const {width, height} = this.canvas, copy = make('canvas', {width, height}), context = copy.getContext('2d');
        context.fillStyle = colour('--card');
        context.fillRect(0, 0, width, height);
        context.drawImage(this.canvas, 0, 0);
        copy.toBlob(take, 'image/png');
    }

    svg() {
        const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight], root = element('svg', {xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${width} ${height + 18 * Math.ceil(this.shown.length / 4)}`});
        root.append(element('rect', {width: '100%', height: '100%', fill: colour('--card')}));
        const pen = svgPen(root);
        this.paint(pen, width, height);
        this.shown.forEach((line, index) => {
            const x = 10 + index % 4 * (width - 20) / 4, y = height + 12 + 18 * Math.floor(index / 4);
            pen.line([x, y - 4, x + 20, y - 4], {stroke: line.colour, width: line.width, dash: line.dash});
            pen.text(line.name, x + 26, y, colour('--front'));
        });
        return new XMLSerializer().serializeToString(root);
    }

    csv() {
        const quote = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
        return `line,${this.along},seconds,value\n${[...this.lines].flatMap(([name, points]) => points.map(([x, y, seconds]) => `${quote(name)},${x},${seconds ?? ''},${y}\n`)).join('')}`;
    }
}

// The sample of a line for legends.
const stroke = line => element('svg', {viewBox: '0 0 28 16', 'aria-hidden': 'true'},
    element('line', {x1: 0, y1: 8, x2: 28, y2: 8, stroke: line.colour, 'stroke-width': line.width * 1.6, 'stroke-dasharray': line.dash.join(' ')}));

// Of points in the order of x, the one next to it.
const nearest = (points, at, x) => {
    let [low, high] = [0, points.length - 1];
    while (high - low > 1) { const middle = (low + high) >> 1; if (x(points[middle]) < at) low = middle; else high = middle; }
    return Math.abs(x(points[low]) - at) <= Math.abs(x(points[high]) - at) ? points[low] : points[high];
};

// What each machine did, a lane each: it trained (full), waited for the others (pale), or was away (nothing). `spans` is [{name, from, to, isWork}], in seconds.
export const timeline = (canvas, names, spans, end) => {
    const height = 22 * names.length + 26;
    canvas.style.height = `${height}px`;
    const {context, width} = begin(canvas), pen = canvasPen(context), left = Math.min(140, width * .3), right = width - 10;
    const px = seconds => left + seconds / (end || 1) * (right - left), ink = colour('--muted');
    for (const second of ticks(0, end || 1, Math.max(2, Math.floor((right - left) / 90)))) {
        pen.line([px(second), 4, px(second), height - 22], {stroke: colour('--line')});
        pen.text(duration(second).replace('less than 1 ms', '0 s'), px(second), height - 6, ink, 'middle');
    }
    const rows = new Map(names.map((name, index) => [name, index]));
    for (const {name, from, to, isWork} of spans) {
        const row = rows.get(name);
        if (row === undefined) continue;
        context.fillStyle = look(row).colour;
        context.globalAlpha = isWork ? 1 : .25;
        context.fillRect(px(from), row * 22 + 7, Math.max(1, px(to) - px(from)), 12);
        context.globalAlpha = 1;
    }
    names.forEach((name, row) => pen.text(name.length > 18 ? `${name.slice(0, 17)}…` : name, left - 8, row * 22 + 17, colour('--front'), 'end'));
};
