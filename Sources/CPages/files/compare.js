import {$, make, call, whole, percent, figure, duration, words, table} from './app.js';
import {Chart} from './chart.js';

const charts = {loss: new Chart($('loss'), $('loss-legend'), {from: 0}), score: new Chart($('score'), $('score-legend'), {})};
const title = session => `${session.settings?.name ?? session.name ?? session.filename} (${session.id.slice(0, 8)})`;
const flat = settings => Object.fromEntries(Object.entries({...settings, optimizer: settings.optimizer.name, hidden: settings.hidden.join(', ') || 'none'})
    .filter(([name]) => !['name', 'note'].includes(name)).map(([name, value]) => [name, typeof value === 'object' ? JSON.stringify(value) : String(value)]));

const show = async () => {
    $('problem').hidden = true;
    history.replaceState(null, '', `?a=${$('first').value}&b=${$('second').value}`);
    try {
        const both = await Promise.all(['first', 'second'].map(place => call('GET', `/sessions/${$(place).value}`)));
        const results = await Promise.all(both.map(session => session.status === 'COMPLETED' ? call('GET', `/sessions/${session.id}/results`) : null));
        for (const chart of Object.values(charts)) chart.clear();
        both.forEach((session, index) => {
            const name = both[0].id === both[1].id ? `${title(session)} ${index + 1}` : title(session);
            for (const round of session.rounds ?? []) {
                charts.loss.add(name, round.round + 1, round.validation?.loss);
                charts.score.add(name, round.round + 1, round.validation?.accuracy ?? round.validation?.r2);
            }
        });
        for (const chart of Object.values(charts)) chart.draw();
        const row = (name, value) => [name, ...both.map((session, index) => value(session, results[index]) ?? '–')];
        $('metrics').replaceChildren(table(['', ...both.map(title)].map((name, index) => index ? name : 'Measure'), [
            row('State', session => words[session.status]), row('Predicts', session => session.dataset?.target),
            row('Accuracy', (_, r) => r?.metrics.accuracy === undefined ? null : percent(r.metrics.accuracy)), row('R²', (_, r) => r?.metrics.r2 === undefined ? null : figure(r.metrics.r2)),
            row('Validation loss', (_, r) => r ? figure(r.metrics.loss) : null), row('RMSE', (_, r) => r?.evaluation?.rmse === undefined ? null : figure(r.evaluation.rmse)),
            row('Held-out rows', (_, r) => r ? whole(r.metrics.samples) : null), row('Rounds', (_, r) => r ? whole(r.rounds) : null), row('Time', (_, r) => r ? duration(r.seconds) : null),
            row('Machines', session => session.peers.map(peer => peer.name).join(', ')),
            row('Data', session => session.dataset ? `${session.dataset.filename}, SHA-256 ${session.dataset.object.sha256.slice(0, 12)}` : null)]));
        const [a, b] = both.map(session => flat(session.settings));
        const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(name => a[name] !== b[name]);
        $('settings').replaceChildren(names.length ? table(['Setting', ...both.map(title)], names.map(name => [name, a[name] ?? '–', b[name] ?? '–'])) : make('p', {textContent: 'None: all settings are equal.'}));
    } catch (error) { $('problem').textContent = error.message; $('problem').hidden = false; }
};
const sessions = await call('GET', '/sessions?limit=200');
if (sessions.length < 2) { $('problem').textContent = 'There are not two sessions yet.'; $('problem').hidden = false; }
const query = new URLSearchParams(location.search);
for (const [place, asked, index] of [['first', query.get('a'), 1], ['second', query.get('b'), 0]]) {
    $(place).replaceChildren(...sessions.map(session => make('option', {value: session.id, textContent: `${title(session)}, ${new Date(session.created_at).toLocaleString()}`})));
    if (sessions.some(session => session.id === asked)) $(place).value = asked; else $(place).selectedIndex = Math.min(index, sessions.length - 1);
    $(place).addEventListener('change', show);
}
if (sessions.length) await show();
