import {make, figure} from './app.js';

const hues = [212, 28, 150, 330, 265, 55, 185, 0, 95, 300];
const dashes = [[], [6, 3], [2, 2], [8, 3, 2, 3]];
const isDark = matchMedia('(prefers-color-scheme: dark)');

// Makes room for the pixels of a canvas as it is shown.
const begin = canvas => {
    const context = canvas.getContext('2d'), scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = '12px system-ui, sans-serif';
    return {context, width, height};
};

// Points [x, y] around the line y = 0.
export const scatter = (canvas, points, along, up) => {
    const {context, width, height} = begin(canvas), style = getComputedStyle(document.body);
    const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
    const [least, most] = [Math.min(...xs), Math.max(...xs)], reach = Math.max(...ys.map(Math.abs)) || 1;
    const left = 58, right = width - 8, top = 8, bottom = height - 22;
    const px = x => left + (most > least ? (x - least) / (most - least) : .5) * (right - left), py = y => (top + bottom) / 2 - y / reach * (bottom - top) / 2;
    context.strokeStyle = style.getPropertyValue('--line');
    context.fillStyle = style.getPropertyValue('--muted') || style.color;
    for (const y of [-reach, 0, reach]) {
        context.beginPath();
        context.moveTo(left, py(y));
        context.lineTo(right, py(y));
        context.stroke();
        context.fillText(figure(Number(y.toPrecision(3))), 2, Math.min(Math.max(py(y) + 4, 14), bottom));
    }
    context.fillText(`${along} ${figure(Number(least.toPrecision(3)))}`, left, height - 6);
    const label = figure(Number(most.toPrecision(3)));
    context.fillText(label, right - context.measureText(label).width, height - 6);
    context.fillStyle = `hsl(${hues[0]} 70% ${isDark.matches ? 68 : 36}% / .6)`;
    for (const [x, y] of points) { context.beginPath(); context.arc(px(x), py(y), 2.5, 0, 7); context.fill(); }
    canvas.title = `${up} by ${along}`;
};

// Lines on a canvas, each a name and points [x, y], and a legend of them. `strong` is the name of one that is drawn last, and thicker.
export class Chart {
    constructor(canvas, legend, {strong = null, from = null, to = null, isShare = false, along = 'round'} = {}) {
        Object.assign(this, {canvas, legend, strong, from, to, isShare, along, lines: new Map(), order: []});
        const redraw = () => requestAnimationFrame(() => this.draw());
        addEventListener('resize', redraw);
        isDark.addEventListener('change', redraw);
    }

    clear() { this.lines.clear(); }

    // Points come in order; one of an x that was there before replaces it.
    add(name, x, y) {
        if (y === undefined || y === null || !Number.isFinite(y)) return;
        if (!this.lines.has(name)) this.lines.set(name, []);
        const points = this.lines.get(name), last = points[points.length - 1];
        if (last && last[0] >= x) { if (last[0] === x) last[1] = y; return; }
        points.push([x, y]);
    }

    style(name, index) {
        const isStrong = name === this.strong, place = this.order.indexOf(name);
        // Colours go by machine, in whatever order their points come.
        if (place >= 0) index = place;
        return {colour: isStrong ? getComputedStyle(document.body).color : `hsl(${hues[index % hues.length]} 70% ${isDark.matches ? 68 : 36}%)`,
            dash: isStrong || this.lines.size > 25 ? [] : dashes[Math.floor(index / hues.length) % dashes.length], width: isStrong ? 2.5 : 1.25};
    }

    draw() {
        const {context, width, height} = begin(this.canvas), ink = getComputedStyle(document.body);
        context.fillStyle = ink.getPropertyValue('--muted') || ink.color;
        const lines = [...this.lines].filter(([, points]) => points.length).sort(([a], [b]) => (a === this.strong) - (b === this.strong));
        if (!lines.length) { context.fillText('Nothing was measured yet.', 8, 24); this.legend.replaceChildren(); this.legend.dataset.names = ''; return; }
        let least = Infinity, most = -Infinity, first = Infinity, end = -Infinity;
        for (const [, points] of lines) {
            first = Math.min(first, points[0][0]);
            end = Math.max(end, points[points.length - 1][0]);
            for (const [, y] of points) { if (y < least) least = y; if (y > most) most = y; }
        }
        if (this.from !== null) least = Math.min(this.from, least);
        if (this.to !== null) most = Math.max(this.to, most);
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
            context.fillText(this.isShare ? `${Math.round(y * 100)} %` : figure(Number(y.toPrecision(3))), 2, py(y) + 4);
        }
        context.fillText(`${this.along} ${Math.floor(first)}`, left, height - 6);
        const label = figure(end);
        context.fillText(label, right - context.measureText(label).width, height - 6);
        lines.forEach(([name, points], index) => {
            const look = this.style(name, index);
            context.strokeStyle = look.colour;
            context.lineWidth = look.width;
            context.setLineDash(look.dash);
            context.beginPath();
            // No more points than there are pixels to show them, and of many lines fewer.
            const every = Math.max(1, lines.length > 25 ? Math.ceil(points.length * lines.length / 4000) : Math.floor(points.length / (2 * (right - left))));
            points.forEach(([x, y], place) => {
                if (every > 1 && place % every && place !== points.length - 1) return;
                if (place) context.lineTo(px(x), py(y)); else context.moveTo(px(x), py(y));
            });
            context.stroke();
            if (points.length === 1) { context.beginPath(); context.arc(px(points[0][0]), py(points[0][1]), 2.5, 0, 7); context.fillStyle = look.colour; context.fill(); }
        });
        this.explain(lines);
    }

    explain(lines) {
        const names = lines.slice(0, 20).map(([name]) => name).join('|') + isDark.matches + this.order.join('|');
        if (this.legend.dataset.names !== names) {
            this.legend.dataset.names = names;
            this.legend.replaceChildren(...lines.slice(0, 20).map(([name], index) => {
                const look = this.style(name, index), svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), line = document.createElementNS('http://www.w3.org/2000/svg', 'line');
                svg.setAttribute('viewBox', '0 0 28 16');
                svg.setAttribute('aria-hidden', 'true');
                for (const [key, value] of Object.entries({x1: 0, y1: 8, x2: 28, y2: 8, stroke: look.colour, 'stroke-width': look.width * 1.6, 'stroke-dasharray': look.dash.join(' ')})) line.setAttribute(key, value);
                svg.append(line);
                return make('li', {}, svg, name);
            }), ...(lines.length > 20 ? [make('li', {textContent: `and ${lines.length - 20} more`})] : []));
        }
        const points = this.lines.get(this.strong) ?? lines[0][1];
        this.about ??= this.canvas.getAttribute('aria-label');
        this.canvas.setAttribute('aria-label', `${this.about}, now ${figure(points[points.length - 1][1])}`);
    }
}
