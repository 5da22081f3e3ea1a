import {make, token as csrf, to} from './app.js';

let token = null;
let described;
const resolve = schema => schema && schema.$ref ? described.components.schemas[schema.$ref.split('/').pop()] : schema || {};

// A value to begin with.
const example = schema => {
    schema = resolve(schema);
    if (schema.examples) return schema.examples[0];
    if ('default' in schema) return schema.default;
    if (schema.enum) return schema.enum[0];
    if (schema.anyOf) return example(schema.anyOf[0]);
    const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
    if (type === 'object') {
        const value = {};
        for (const [name, field] of Object.entries(schema.properties || {})) if ((schema.required || []).includes(name)) value[name] = example(field);
        return value;
    }
    if (type === 'array') return [example(schema.items)];
    return {integer: schema.minimum ?? 1, number: 0, boolean: false}[type] ?? 'text';
};

const operation = (method, path, about) => {
    const box = make('details', {id: about.operationId});
    box.append(make('summary', {}, make('span', {className: 'method', textContent: method.toUpperCase()}),
        make('code', {textContent: path}), ' ' + about.summary));
    const form = make('form');
    const inputs = [];
    const field = (place, name, schema, required) => {
        schema = resolve(schema);
        const id = `${about.operationId}-${place}-${name}`;
        const hint = [schema.description, 'default' in schema && `Default: ${schema.default}.`].filter(Boolean).join(' ');
        form.append(make('label', {htmlFor: id, textContent: name + (required ? ' *' : '')}));
        const input = schema.enum ? make('select', {id, required, 'aria-describedby': `${id}-help`}, ...['', ...schema.enum].map(value => make('option', {value, textContent: value})))
            : make('input', {id, type: schema.format === 'binary' ? 'file' : 'text', required, 'aria-describedby': `${id}-help`});
        form.append(input, make('p', {className: 'help', id: `${id}-help`, textContent: hint}));
        inputs.push({place, name, input});
    };
    for (const parameter of about.parameters || []) field(parameter.in, parameter.name, parameter.schema, parameter.required);
    const [type, content] = Object.entries((about.requestBody || {content: {}}).content)[0] || [];
    let text = null;
    if (type === 'multipart/form-data') {
        const properties = Object.entries(resolve(content.schema).properties).sort(([a], [b]) => (a === 'file') - (b === 'file'));
        for (const [name, schema] of properties) field('form', name, schema, false);
    } else if (type) {
        const id = `${about.operationId}-body`;
        form.append(make('label', {htmlFor: id, textContent: `Body (${type})`}));
        text = make('textarea', {id, value: type === 'application/json' ? JSON.stringify(example(content.schema), null, 2) : ''});
        form.append(text);
    }
    const answers = Object.entries(about.responses).map(([status, answer]) => `${status} ${answer.description}`).join(' · ');
    const output = make('pre', {hidden: true, tabIndex: 0});
    form.append(make('p', {className: 'muted', textContent: answers}), make('button', {textContent: 'Send'}), output);
    form.addEventListener('submit', async event => {
        event.preventDefault();
        let url = path;
        const query = new URLSearchParams(), parts = new FormData();
        for (const {place, name, input} of inputs) {
            const value = input.type === 'file' ? input.files[0] : input.value;
            if (value === undefined || value === '') continue;
            if (place === 'path') url = url.replace(`{${name}}`, encodeURIComponent(value));
            if (place === 'query') query.set(name, value);
            if (place === 'form') parts.append(name, value);
        }
        const headers = token ? {Authorization: `Bearer ${token}`} : {'X-CSRF-Token': csrf};
        if (text) headers['Content-Type'] = type;
        output.hidden = false;
        output.className = '';
        output.textContent = '…';
        try {
            const answer = await fetch(to(url) + (query.size ? `?${query}` : ''),
                {method: method.toUpperCase(), headers, body: text ? text.value : type ? parts : undefined});
            output.className = answer.ok ? '' : 'problem';
            const kind = answer.headers.get('content-type') || '';
            const head = `${answer.status} ${answer.statusText}\n`;
            if (kind.includes('json')) output.textContent = head + JSON.stringify(await answer.json(), null, 2);
            else if (kind.startsWith('text/event-stream')) {
                output.textContent = head;
                const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
                for (let part = await reader.read(); !part.done; part = await reader.read()) output.textContent += part.value;
            } else if (kind.startsWith('text/')) output.textContent = head + await answer.text();
            else output.textContent = head + `${(await answer.blob()).size} bytes of ${kind || 'nothing'}`;
        } catch (error) {
            output.className = 'problem';
            output.textContent = `no answer: ${error.message}`;
        }
    });
    box.append(form);
    return box;
};

document.getElementById('signin').addEventListener('submit', async event => {
    event.preventDefault();
    const who = document.getElementById('who');
    const email = document.getElementById('email').value;
    try {
        const answer = await fetch(to('/auth/signin'), {method: 'POST', headers: {'Content-Type': 'application/json'},
            body: JSON.stringify({email, password: document.getElementById('password').value})});
        const body = await answer.json();
        token = answer.ok ? body.access_token : null;
        who.className = answer.ok ? 'muted' : 'problem';
        who.textContent = answer.ok ? `${email} is signed in: calls go with the token.` : body.detail;
    } catch (error) {
        who.className = 'problem';
        who.textContent = `no answer: ${error.message}`;
    }
});

fetch(to('/openapi.json')).then(answer => answer.json()).then(document_ => {
    described = document_;
    const main = document.getElementById('operations');
    for (const tag of described.tags) {
        main.append(make('h2', {textContent: tag.name}));
        for (const [path, methods] of Object.entries(described.paths)) {
            for (const [method, about] of Object.entries(methods)) {
                if (about.tags[0] === tag.name) main.append(operation(method, path, about));
            }
        }
    }
});

