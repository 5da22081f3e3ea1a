import {$, make, call, token, figure, percent, save, to} from './app.js';

// The form with which a person tries a model, and the code with which they use it elsewhere.
// - columns: those that the model predicts from, as the schema has them.
// - predict: asks for the prediction of one row.
// - rows: real rows of the data, for the owner while the data is kept; else the form begins with medians or means.
export const tryModel = ({columns, target, predict, rows = []}) => {
    const shown = columns.slice(0, 60);
    if (!shown.length) return;
    const inputs = shown.map((column, index) => {
        const field = `try-${index}`;
        const input = column.kind === 'categorical'
            ? make('select', {id: field, name: column.name}, ...['', ...column.categories].map(value => make('option', {value, textContent: value || 'missing'})))
            : make('input', {id: field, name: column.name, type: column.kind === 'numeric' ? 'number' : 'text', step: 'any', placeholder: column.kind === 'numeric' ? figure(column.middle ?? column.mean) : column.date_format});
        if (column.kind === 'numeric') input.value = Number((column.middle ?? column.mean).toPrecision(4));
        else if (column.kind === 'categorical') input.selectedIndex = 1;
        return input;
    });
    $('try-fields').replaceChildren(...inputs.map((input, index) => make('div', {}, make('label', {htmlFor: input.id, textContent: shown[index].name}), input)));
    $('try').hidden = false;

    // A value that training has not seen is predicted, but no one knows how well.
    const checkRange = () => {
        const outside = shown.flatMap((column, index) => {
            const value = Number(inputs[index].value);
            if (column.kind !== 'numeric' || inputs[index].value === '' || column.least === undefined || value >= column.least && value <= column.most) return [];
            return [`${column.name} is ${figure(value)}; the data has ${figure(column.least)} to ${figure(column.most)}`];
        });
        $('outside').textContent = outside.length ? `Outside the range of the data, where a prediction is a guess: ${outside.join('. ')}.` : '';
    };
    for (const input of inputs) input.addEventListener('input', () => { checkRange(); clear(); });
    const clear = () => { $('prediction').textContent = $('truth').textContent = ''; $('chances').replaceChildren(); truth = null; };

    let at = 0, truth = null;
    const fill = row => {
        shown.forEach((column, index) => { inputs[index].value = row.values[column.name] ?? ''; });
        checkRange();
        clear();
        truth = row.target;
    };
    if (rows.length) {
        fill(rows[0]);
        $('another').hidden = rows.length < 2;
        $('another').addEventListener('click', () => { at = (at + 1) % rows.length; fill(rows[at]); });
    }

    $('try-form').addEventListener('submit', async event => {
        event.preventDefault();
        const row = Object.fromEntries(shown.map((column, index) => [column.name, inputs[index].value === '' ? null : inputs[index].value]));
        $('prediction').className = 'answer';
        try {
            const {predictions: [prediction], probabilities} = await predict(row);
            $('prediction').textContent = `${target}: ${typeof prediction === 'number' ? figure(prediction) : prediction}`;
            $('chances').replaceChildren(...Object.entries(probabilities?.[0] ?? {}).sort(([, a], [, b]) => b - a).slice(0, 8).map(([label, p]) =>
                make('li', {}, label, make('progress', {max: 1, value: p, 'aria-label': `probability of ${label}`}), make('span', {className: 'number', textContent: percent(p)}))));
            $('truth').textContent = truth === null || truth === undefined ? '' : `In the data, this row has: ${truth}.`;
        } catch (error) { $('prediction').className = 'problem'; $('prediction').textContent = error.message; $('chances').replaceChildren(); }
    });
};

// A whole file: it comes back with columns added.
export const predictFiles = id => $('predict-whole').addEventListener('click', async () => {
    const file = $('whole').files[0], said = $('whole-said');
    said.className = '';
    if (!file) { said.textContent = 'Choose a CSV first.'; return; }
    said.textContent = 'Predicting …';
    try {
        const answer = await fetch(to(`/sessions/${id}/predictions`), {method: 'POST', headers: {'X-CSRF-Token': token, 'Content-Type': 'text/csv'}, body: file});
        if (!answer.ok) throw new Error((await answer.json()).detail);
        save(await answer.blob(), `predicted-${file.name}`);
        said.textContent = `predicted-${file.name} is downloaded.`;
    } catch (error) { said.className = 'problem'; said.textContent = error.message; }
});

// How the model is used elsewhere, ready to be copied.
export const showSnippets = (id, columns) => {
    const server = `${location.origin}${to('')}`, first = Object.fromEntries(columns.slice(0, 3).map(column => [column.name, column.kind === 'numeric' ? Number((column.middle ?? column.mean).toPrecision(4)) : column.categories?.[0] ?? null]));
    const texts = {
        'Python, with the model file': `import cohort, pandas\n\nmodel = cohort.Model.load("${id.slice(0, 8)}.safetensors")\nmodel.predict(pandas.read_csv("data.csv"))`,
        'Python, on this server': `import cohort, pandas\n\nclient = cohort.connect("${server}")\nclient.run("${id}").predict(pandas.read_csv("data.csv"))`,
        'curl': `curl -sS ${server}/sessions/${id}/predict -H "Authorization: Bearer $TOKEN" \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify({rows: [first], allow_missing: true})}'`,
        'Command line': `cohort model ${id} -o model.safetensors\ncohort predict model.safetensors data.csv -o predicted.csv`,
    };
    $('snippets').replaceChildren(...Object.entries(texts).flatMap(([name, text]) => {
        const block = make('pre', {tabIndex: 0, textContent: text}), copy = make('button', {className: 'tool', type: 'button', textContent: 'Copy', 'aria-label': `copy: ${name}`});
        copy.addEventListener('click', async () => {
            if (!navigator.clipboard) { getSelection().selectAllChildren(block); return; }
            await navigator.clipboard.writeText(text);
            copy.textContent = 'Copied';
        });
        return [make('div', {className: 'row'}, make('h3', {textContent: name}), copy), block];
    }));
};
