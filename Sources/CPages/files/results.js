import {$, make, call, whole, percent, figure, duration, table, bytes, plain, to} from './app.js';
import {scatter} from './chart.js';

// What came out of a session that has completed.
// - isShared: without what only its owner may see.
export const showResults = (results, {id, isIndependent, isRegression, isShared = false}) => {
    const evaluation = results.evaluation;
    const parts = [];
    if (evaluation?.task === 'classification') {
        const interval = evaluation.accuracy_interval;
        parts.push(make('p', {}, make('strong', {textContent: `Accuracy ${percent(evaluation.accuracy)}`}), ` on ${whole(evaluation.samples)} held-out rows${interval ? ` (95 % interval ${percent(interval[0])} to ${percent(interval[1])})` : ''}.`,
            evaluation.guessing ? ` Always guessing '${evaluation.guessing.prediction}': ${percent(evaluation.guessing.accuracy)}.` : ''));
        const classes = (evaluation.classes ?? []).slice(0, 30);
        if (classes.length) parts.push(table(['Class', {name: 'Precision', number: true}, {name: 'Recall', number: true}, {name: 'F1', number: true}, {name: 'Rows', number: true}], classes.map(c => [c.label, percent(c.precision), percent(c.recall), percent(c.f1), whole(c.samples)]), 'Classes', {isDense: true}));
        if (evaluation.confusion && classes.length <= 12) parts.push(make('h3', {textContent: 'Confusion'}), make('div', {className: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Confusion matrix'}, make('table', {className: 'matrix'},
            make('thead', {}, make('tr', {}, make('th', {scope: 'col', textContent: 'true \\ predicted'}), ...classes.map(c => make('th', {scope: 'col', textContent: c.label})))),
            make('tbody', {}, ...evaluation.confusion.map((counts, row) => make('tr', {}, make('th', {scope: 'row', textContent: classes[row].label}), ...counts.map((count, column) => make('td', {className: row === column ? 'hit' : '', textContent: whole(count)})))))))); 
    } else if (evaluation) {
        parts.push(make('p', {}, make('strong', {textContent: `RMSE ${figure(evaluation.rmse)}`}), `, MAE ${figure(evaluation.mae)}, R² ${figure(evaluation.r2)} on ${whole(evaluation.samples)} held-out rows, in units of '${evaluation.target}'.`,
            evaluation.guessing ? ` Always guessing ${figure(Number(evaluation.guessing.prediction))}: RMSE ${figure(evaluation.guessing.rmse)}.` : ''));
        if (evaluation.predictions?.length > 1) {
            const canvas = make('canvas', {role: 'img', 'aria-label': `Residuals of ${evaluation.predictions.length} held-out rows against what was predicted`});
            parts.push(make('h3', {textContent: 'Residuals'}), make('p', {className: 'help', textContent: 'The true value less the predicted one, by what was predicted, for some of the held-out rows. A good model shows no pattern around the line at 0.'}), canvas);
            const points = evaluation.predictions.map(pair => [pair.predicted, pair.actual - pair.predicted]);
            const draw = () => scatter(canvas, points, 'predicted', 'residual');
            new ResizeObserver(draw).observe(canvas);
        }
    }
    if (evaluation?.importance?.length) {
        const top = evaluation.importance.slice(0, 15), largest = Math.max(...top.map(each => each.loss), 1e-12);
        parts.push(make('h3', {textContent: 'Feature importance'}), make('p', {className: 'help', textContent: 'Permutation importance: how much worse the predictions get when the values of one column are shuffled among the held-out rows. Correlated columns share it.'}),
            table(['Column', 'Importance', {name: 'Loss', number: true}, ...(isRegression ? [] : [{name: 'Accuracy', number: true}])], top.map(each => [each.column, make('progress', {max: 1, value: Math.max(0, each.loss / largest), 'aria-label': `importance of ${each.column}`}),
                `${each.loss < 0 ? '' : '+'}${figure(Number(each.loss.toPrecision(3)))}`, ...(isRegression ? [] : [`${each.accuracy < 0 ? '+' : '−'}${percent(Math.abs(each.accuracy))}`])]), 'Feature importance', {isDense: true}));
    }
    if (evaluation?.calibration?.length) parts.push(make('h3', {textContent: 'Calibration'}), make('p', {className: 'help', textContent: 'The mean probability of the predicted class beside the accuracy. The closer they are, the better the model is calibrated.'}),
        table(['Predicted probability', {name: 'Mean', number: true}, {name: 'Accuracy', number: true}, {name: 'Rows', number: true}], evaluation.calibration.map(bin => [`${percent(bin.from)} to ${percent(bin.to)}`, percent(bin.probability), percent(bin.accuracy), whole(bin.samples)]), 'Calibration', {isDense: true}));
    if (results.best_peer) parts.push(make('p', {textContent: `Best machine: ${results.best_peer}.`}));
    const most = Math.max(1, ...results.peers.map(peer => peer.trained_samples));
    parts.push(make('h3', {textContent: isIndependent ? 'Leaderboard' : 'Contributions'}), table(['Machine', {name: 'Rows trained', number: true}, 'Share', {name: 'Loss', number: true}, {name: isRegression ? 'R²' : 'Accuracy', number: true}, {name: 'Samples/s', number: true}, {name: 'Seconds', number: true}, {name: 'Sent', number: true}, {name: 'Rows received', number: true}],
        [...results.peers].sort((a, b) => isIndependent ? (a.loss ?? Infinity) - (b.loss ?? Infinity) : b.trained_samples - a.trained_samples).map(peer => [peer.name, whole(peer.trained_samples),
            make('progress', {max: most, value: peer.trained_samples, 'aria-label': `share of ${peer.name}`}), figure(peer.loss), isRegression ? figure(peer.r2) : percent(peer.accuracy), peer.samples_per_second ? whole(peer.samples_per_second) : '–', peer.worked_seconds === undefined ? '–' : figure(Number(peer.worked_seconds.toPrecision(3))), peer.sent_bytes === undefined ? '–' : bytes(peer.sent_bytes),
            peer.received_rows === undefined ? '–' : whole(peer.received_rows)]), 'Contributions'));
    const updates = isShared ? null : make('details', {id: 'receipt'}, make('summary', {textContent: 'Updates, round by round'}));
    if (updates) {
        updates.addEventListener('toggle', () => showReceipt(updates, id), {once: true});
        parts.push(updates);
    }
    for (const warning of results.warnings ?? []) parts.push(make('p', {className: 'warning', textContent: `Data: ${plain(warning)}`}));
    parts.push(make('p', {className: 'muted', textContent: `${results.rounds} rounds in ${duration(results.seconds)}${results.expected_seconds === undefined ? '' : ` (estimated from the machines' speeds: ${duration(results.expected_seconds)} of computing)`}; seed ${results.seed}.`}));
    $('results').replaceChildren(...parts);
    $('outcome').hidden = false;
};

// Of the newest rounds, as many rows as are looked at.
const showReceipt = async (into, id) => {
    try {
        const receipt = await call('GET', `/sessions/${id}/receipt`);
        const rows = receipt.rounds.flatMap(round => round.contributions.map(each => [String(round.round + 1), each.peer_name, whole(each.samples), each.weight === undefined ? '–' : percent(each.weight),
            figure(each.norm), each.cosine === undefined ? '–' : each.cosine.toFixed(2)]));
        into.append(make('p', {className: 'help', textContent: 'What went into the weights of each round: by what weight an update counted, how long its change of the weights was (L2 norm), and the cosine of the angle between it and the others\u2019 together: 1 is the same direction, below 0 against them.'}),
            table([{name: 'Round', number: true}, 'Machine', {name: 'Rows trained', number: true}, {name: 'Weight', number: true}, {name: 'Change', number: true}, {name: 'Cosine', number: true}], rows.slice(-300), 'Updates', {isDense: true}),
            make('p', {}, rows.length > 300 ? `The newest 300 of ${whole(rows.length)} updates. ` : '', make('a', {href: to(`/sessions/${id}/receipt`), download: `${id}-receipt.json`, textContent: 'The whole receipt as a file'})));
    } catch (error) { into.append(make('p', {className: 'problem', textContent: error.message})); }
};
