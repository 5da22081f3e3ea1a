import {$, make, call, whole, percent, figure, duration, reveal, to} from './app.js';
import {Chart} from './chart.js';
import {showResults} from './results.js';
import {tryModel} from './try.js';

const here = location.pathname.slice(to('').length);
const GLOBAL = 'the model, held-out rows';
const group = [];
const charts = {loss: new Chart($('loss'), $('loss-legend'), {title: 'Loss', strong: GLOBAL, from: 0, group}), score: new Chart($('score'), $('score-legend'), {title: 'Score', strong: GLOBAL, group})};
const tile = (name, value, note) => make('div', {}, make('dt', {textContent: name}), make('dd', {textContent: value}, make('small', {textContent: note ?? ''})));

try {
    const shared = await call('GET', `${here}/data`);
    const isRegression = shared.task === 'regression', isIndependent = shared.is_independent, {results} = shared;
    $('score-title').textContent = isRegression ? 'R²' : 'Accuracy';
    Object.assign(charts.score, {title: isRegression ? 'R²' : 'Accuracy', from: isRegression ? null : .5, isShare: !isRegression});
    const times = new Map(shared.curves.rounds.round.map((round, index) => [round, shared.curves.rounds.time[index]]));
    let least = Infinity;
    for (const round of shared.rounds) {
        charts.loss.add(GLOBAL, round.round + 1, round.loss, times.get(round.round) ?? null);
        charts.score.add(GLOBAL, round.round + 1, round.score, times.get(round.round) ?? null);
        if (round.loss < least) { least = round.loss; for (const chart of group) chart.best = round.round + 1; }
    }
    for (const curve of shared.curves.peers) {
        const epochs = Math.max(1, ...curve.epoch);
        curve.round.forEach((round, index) => {
            const x = isIndependent ? curve.epoch[index] : round + curve.epoch[index] / epochs;
            charts.loss.add(curve.name, x, curve.loss[index], curve.time[index]);
            charts.score.add(curve.name, x, curve.score[index], curve.time[index]);
        });
    }
    for (const chart of group) {
        Object.assign(chart, {along: isIndependent ? 'epoch' : 'round', order: shared.curves.peers.map(curve => curve.name)});
        chart.draw();
    }
    if (shared.target) $('subject').textContent = `Predicts ${shared.target}.`;
    if (results) {
        $('tiles').replaceChildren(isRegression ? tile('R²', figure(results.metrics.r2)) : tile('Accuracy', percent(results.metrics.accuracy)), tile('Loss', figure(results.metrics.loss), `on ${whole(results.metrics.samples)} held-out rows`),
            tile('Machines', whole(results.peers.length)), tile('Time', duration(results.seconds), `${results.rounds} rounds`));
        showResults(results, {id: '', isIndependent, isRegression, isShared: true});
    }
    if (shared.columns) tryModel({columns: shared.columns, target: shared.target, predict: row => call('POST', `${here}/predict`, {body: {rows: [row], allow_missing: true}})});
} catch (error) { $('error').textContent = error.message; $('error').hidden = false; }
reveal();
