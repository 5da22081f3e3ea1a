import {$, make, draw, call, token, whole, bytes, table, figure, duration, plain, reveal, to} from './app.js';

const file = $('file'), drop = $('drop'), form = $('form');
let chosen = null;
const say = (id, text) => { $(id).textContent = plain(text ?? ''); $(id).hidden = !text; };

const bars = counts => {
    const most = Math.max(1, ...counts);
    return draw('svg', {viewBox: `0 0 ${counts.length * 10} 24`, preserveAspectRatio: 'none', class: 'bars', 'aria-hidden': 'true'}, ...counts.map((count, index) => {
        const height = Math.max(count > 0 ? 1 : 0, 24 * count / most);
        return draw('rect', {x: index * 10 + 1, y: 24 - height, width: 8, height});
    }));
};

// Training goes on from a model: its columns, target and shape stay.
const from = new URLSearchParams(location.search).get('from');
let source = null;
const goOn = async () => {
    source = await call('GET', `/sessions/${from}`);
    const place = make('a', {href: to(`/app/session/${from}`), textContent: source.settings.name ?? source.filename});
    $('onward').replaceChildren('Training goes on from the model of ', place, `, which predicts '${source.dataset.target}'. The CSV needs the columns that it was made from.`);
    $('onward').hidden = false;
    $('hidden').value = source.settings.hidden.join(',') || 'none';
    $('dropout').value = source.settings.dropout;
    $('name').value = source.settings.name ?? '';
    for (const fixed of ['hidden', 'dropout', 'activation', 'target', 'task']) $(fixed).disabled = true;
    $('try-samples').hidden = true;
};

// A custom module has its own layers.
const listModules = async chosenOne => {
    const modules = await call('GET', '/modules');
    $('module').replaceChildren(make('option', {value: '', textContent: 'SimpleDNN'}), ...modules.map(module => make('option', {value: module.sha256,
        textContent: `${module.input_shape.length ? module.input_shape.join(' × ') : module.inputs} → ${module.outputs}, ${whole(module.parameters)} parameters (${module.sha256.slice(0, 8)})`})));
    $('module').value = chosenOne ?? '';
    takeModule();
};
const takeModule = () => {
    for (const own of ['hidden', 'dropout', 'activation']) $(own).disabled = source !== null || $('module').value !== '';
    estimate();
};
$('module').addEventListener('change', takeModule);
$('module-file').addEventListener('change', async () => {
    const picked = $('module-file').files[0];
    if (!picked) return;
    say('problem');
    try {
        const added = await call('POST', '/modules', {form: picked});
        await listModules(added.sha256);
    } catch (error) { say('problem', error.message); }
    $('module-file').value = '';
});

// What the person chose for a column, by its name.
const uses = new Map();
const kinds = {numeric: 'a number', categorical: 'a category', date: 'a date', text: 'text', target: 'the target', ignored: 'not used'};
const show = (look, keepsTarget) => {
    if (!keepsTarget) $('target').replaceChildren(...(look.target === undefined ? [make('option', {value: '', textContent: 'choose a column'})] : []), ...look.columns.map(column => make('option', {value: column.name, textContent: column.name, selected: column.name === look.target})));
    const rowsSeen = `${whole(look.rows)} ${look.is_whole ? 'rows' : 'rows looked at, of more'}`;
    $('file-name').textContent = `${chosen.name}: ${rowsSeen}, ${look.columns.length} columns`;
    say('target-problem', look.problem);
    $('guess').textContent = look.problem || look.target === undefined ? '' : `${rowsSeen}; '${look.target}' is predicted as ${look.task === 'classification' ? `one of ${look.classes.length} classes` : 'a quantity'}.`;
    $('warnings').replaceChildren(...look.warnings.map(text => make('li', {textContent: plain(text)})));
    $('columns').replaceChildren(table(['Column', 'Used as', {name: 'Missing', number: true}, 'Values', 'Note'], look.columns.map(column => {
        const role = make('select', {'aria-label': `what to do with ${column.name}`},
            make('option', {value: '', textContent: kinds[column.kind] ?? column.kind}),
            ...(column.kind === 'target' ? [] : [column.kind === 'ignored' ? make('option', {value: 'use', textContent: 'use it'}) : make('option', {value: 'ignore', textContent: 'do not use'})]),
            ...(column.kind === 'numeric' ? [make('option', {value: 'category', textContent: 'a category'})] : []),
            ...(column.kind === 'categorical' && (column.examples ?? []).length && column.examples.every(text => /^\d+$/.test(text)) ? [make('option', {value: 'number', textContent: 'a number'})] : []));
        role.value = uses.get(column.name) ?? '';
        if (role.value === '') role.selectedIndex = 0;
        role.disabled = source !== null || column.kind === 'target';
        role.addEventListener('change', () => { uses.set(column.name, role.value); });
        const values = make('div', {}, bars(column.counts), make('span', {className: 'muted small', textContent: column.kind === 'numeric' && column.least !== undefined ? `${figure(column.least)} to ${figure(column.most)}` : (column.examples ?? []).join(', ')}));
        return [make('strong', {textContent: column.name}), role, whole(column.missing), values, column.note ? make('span', {className: 'small', textContent: plain(column.note)}) : ''];
    }), 'Columns of the file'));
    $('look').hidden = $('goal').hidden = false;
    $('goal-later').hidden = $('try-samples').hidden = true;
    canTrain = !look.problem && look.target !== undefined;
    rows = look.is_whole ? look.rows : Math.round(look.rows * chosen.size / 1048576);
    inputs = look.columns.reduce((sum, column) => sum + (column.kind === 'categorical' ? column.counts.length : ['numeric', 'date'].includes(column.kind) ? 1 : 0), 0);
    outputs = look.task === 'classification' ? look.classes.length : 1;
    ready();
    estimate();
};

let canTrain = false;
// The steps that are done, and whether training can start.
const ready = () => {
    $('step-data').className = chosen && !$('look').hidden ? 'done' : '';
    $('step-goal').className = canTrain ? 'done' : '';
    $('step-machines').className = canTrain && free.length ? 'done' : '';
    $('start').disabled = !canTrain;
};

// The beginning of the file alone: a long one is not sent twice.
const look = async (keepsTarget, target) => {
    say('file-problem');
    try {
        const query = new URLSearchParams({whole: chosen.size <= 1048576});
        if (source) { query.set('target', source.dataset.target); query.set('task', source.dataset.task); }
        else if (target || keepsTarget && $('target').value) query.set('target', target ?? $('target').value);
        if (!source && $('task').value) query.set('task', $('task').value);
        const answer = await fetch(to(`/app/look?${query}`), {method: 'POST', headers: {'X-CSRF-Token': token, 'Content-Type': 'text/csv'}, body: chosen.slice(0, 1048576)});
        const body = await answer.json();
        if (!answer.ok) throw new Error(body.detail);
        show(body, keepsTarget);
    } catch (error) {
        $('look').hidden = $('goal').hidden = true;
        $('goal-later').hidden = $('try-samples').hidden = false;
        canTrain = false;
        ready();
        say('file-problem', error.message);
    }
};
const choose = async (picked, target) => {
    if (!picked) return;
    chosen = picked;
    uses.clear();
    $('task').value = '';
    if (target) $('target').replaceChildren(make('option', {value: target, textContent: target, selected: true}));
    await look(false, target);
};
for (const button of document.querySelectorAll('button[data-sample]')) {
    button.addEventListener('click', async () => {
        const {sample, target} = button.dataset;
        try {
            const answer = await fetch(`${document.documentElement.dataset.assets}/${sample}`);
            if (!answer.ok) throw new Error(`the sample cannot be read: the server answered ${answer.status}`);
            if (!$('name').value) $('name').value = sample.replace('.csv', '');
            await choose(new File([await answer.blob()], sample, {type: 'text/csv'}), target);
            $('look').scrollIntoView({block: 'nearest'});
        } catch (error) { say('file-problem', error.message); }
    });
}
file.addEventListener('change', () => choose(file.files[0]));
for (const name of ['dragenter', 'dragover']) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.add('over'); });
for (const name of ['dragleave', 'drop']) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.remove('over'); });
drop.addEventListener('drop', event => choose(event.dataTransfer.files[0]));
$('target').addEventListener('change', () => look(true));
$('task').addEventListener('change', () => look(true));

// Will it help? From the peers' measured speeds (on a net 64-128-64-10), the rows and the net; shares go by speed.
let free = [], rows = 0, inputs = 0, outputs = 1;
const estimate = () => {
    // The time of a custom module's step is unknown.
    if ($('module').value) { $('estimate').textContent = ''; return; }
    const count = Number($('peers').value), widths = $('hidden').value === 'none' ? [] : $('hidden').value.split(',').map(Number);
    if (!rows || !free.length || !(count > 0) || widths.some(width => !(width > 0))) { $('estimate').textContent = canTrain ? '' : 'Choose a file to begin.'; return; }
    const sizes = [inputs, ...widths, outputs];
    const weights = sizes.slice(1).reduce((sum, size, index) => sum + size * sizes[index], 0);
    const speeds = free.map(peer => [peer.name, peer.samples_per_second * 17024 / Math.max(weights, 1)]).sort(([, a], [, b]) => b - a);
    const steps = Number($('local_steps').value), ofSteps = steps * Number($('batch_size').value || 32);
    const passes = rows * (1 - Number($('validation').value || 0)) * Number($('epochs').value || 1);
    // Of so many steps each makes all: the slowest decides.
    const seconds = many => steps ? ofSteps / speeds[many - 1][1] : passes / speeds.slice(0, many).reduce((sum, [, speed]) => sum + speed, 0);
    const isAlone = $('strategy').selectedOptions[0].dataset.own === 'true';
    const slowest = speeds[Math.min(count, free.length) - 1], bytesSent = `each machine receives and sends ${bytes(4 * weights)} a round`;
    // Sending the weights takes longer than training on them.
    if (!isAlone && !steps && seconds(1) < .05) {
        $('estimate').textContent = `A round is ${duration(seconds(1))} of computing on one machine: more machines do not make so small a table faster. Over the network, ${bytesSent}.`;
        return;
    }
    const shown = [...new Set([1, 2, Math.min(count, free.length), free.length])].filter(many => many <= free.length).sort((a, b) => a - b);
    const times = isAlone ? `about ${duration((steps ? ofSteps : passes) / slowest[1])}, as each trains on all rows`
        : shown.map(many => `${many === 1 ? 'one machine' : `${many} machines`} about ${duration(seconds(many))}`).join(', ');
    $('estimate').textContent = `Computing ${isAlone ? 'takes' : 'a round takes'} ${times}; the slowest is ${slowest[0]} (${whole(slowest[1])} rows a second). Over the network, ${bytesSent}.`;
};
// Of the further settings, those whose name or help has every word that is looked for.
$('find').addEventListener('input', () => {
    const wanted = $('find').value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const section of document.querySelectorAll('section.settings')) {
        let here = 0;
        for (const setting of section.querySelectorAll('[data-setting]')) {
            const text = setting.textContent.toLowerCase();
            setting.hidden = !wanted.every(word => text.includes(word));
            here += !setting.hidden;
        }
        section.classList.toggle('unmatched', wanted.length > 0 && here === 0);
        count += here;
    }
    $('found').textContent = wanted.length ? count === 1 ? 'One setting.' : `${count} settings.` : '';
});

const explain = () => { $('strategy-help').textContent = $('strategy').selectedOptions[0].dataset.summary; };
$('strategy').addEventListener('input', explain);
explain();
for (const name of ['peers', 'hidden', 'epochs', 'strategy', 'validation', 'local_steps', 'batch_size']) $(name).addEventListener('input', estimate);

try { await listModules(); } catch (error) { say('problem', error.message); }
if (from) try { await goOn(); $('module').disabled = $('module-file').disabled = true; } catch (error) { say('problem', error.message); }
try {
    const peers = await call('GET', '/peers');
    free = peers.filter(peer => peer.status === 'ONLINE' && peer.mine);
    $('peers').value = Math.max(1, free.length);
    $('free').textContent = free.length === 1 ? 'One of yours is free.' : `${free.length} of yours are free.`;
    estimate();
    $('no-machine').hidden = free.length > 0;
    ready();
    $('each').hidden = free.length === 0;
    $('overrides').replaceChildren(table(['Machine', 'Batch size', 'Epochs', 'Learning rate'], free.map(peer => [make('strong', {textContent: peer.name}),
        ...[['batch_size', 'batch size', 1], ['epochs', 'epochs', 1], ['lr', 'learning rate', 'any']].map(([field, words, step]) => make('input', {type: 'number', min: 0, step, 'data-peer': peer.name, 'data-field': field, 'aria-label': `${words} of ${peer.name}`}))])));
} catch (error) { say('problem', error.message); }
reveal();

// A field that is closed away would refuse the form unseen.
form.addEventListener('invalid', event => {
    if (!$('more').contains(event.target)) return;
    $('more').open = true;
    $('find').value = '';
    $('find').dispatchEvent(new Event('input'));
}, true);

form.addEventListener('submit', async event => {
    event.preventDefault();
    say('problem');
    const fields = {};
    for (const [name, value] of new FormData(form)) if (typeof value === 'string' && value.trim() !== '') fields[name] = value.trim();
    if ($('strategy').selectedOptions[0].dataset.own === 'true') delete fields.rounds;
    if (source) fields.from = from;
    const picked = what => [...uses].filter(([, use]) => use === what).map(([name]) => name);
    for (const what of ['use', 'ignore', 'category', 'number']) if (picked(what).length) fields[what] = JSON.stringify(picked(what));
    const each = {};
    for (const input of $('overrides').querySelectorAll('input')) if (input.value !== '') (each[input.dataset.peer] ??= {})[input.dataset.field] = Number(input.value);
    if (Object.keys(each).length) fields.per_peer = JSON.stringify(each);
    $('start').disabled = true;
    try {
        await call('POST', '/sessions/check', {body: fields});
        const body = new FormData();
        for (const [name, value] of Object.entries(fields)) body.append(name, value);
        body.append('file', chosen, chosen.name);
        $('sending').hidden = false;
        // fetch tells nothing of an upload's bytes.
        const request = new XMLHttpRequest();
        request.open('POST', to('/sessions/start'));
        request.setRequestHeader('X-CSRF-Token', token);
        request.upload.addEventListener('progress', at => { $('upload').max = at.total; $('upload').value = at.loaded; $('sent').textContent = `${bytes(at.loaded)} of ${bytes(at.total)}`; });
        const answer = await new Promise((resolve, reject) => {
            request.addEventListener('load', () => resolve(JSON.parse(request.responseText)));
            request.addEventListener('error', () => reject(new Error('the connection to the server broke: start again')));
            request.send(body);
        });
        if (!answer.session_id) throw new Error(answer.detail);
        location.assign(to(`/app/session/${answer.session_id}`));
    } catch (error) {
        say('problem', error.message);
        $('sending').hidden = true;
        ready();
    }
});
