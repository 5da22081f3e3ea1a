import {$, make, call, percent, ago, empty, icon, table, reveal, to} from './app.js';

const sessions = (await call('GET', '/sessions?limit=200')).filter(session => session.status === 'COMPLETED');
$('models').replaceChildren(sessions.length === 0 ? empty('models', 'No model yet', make('a', {href: to('/app/new'), textContent: 'Train one'}), ': with sample data it takes a minute.') : table(['Model', {name: 'Version', number: true}, 'Predicts', {name: 'Score', number: true}, 'Data', 'Trained', 'Files'], sessions.map(session => [
    make('a', {href: to(`/app/session/${session.id}`), textContent: session.name ?? session.filename}), String(session.version ?? 1), session.target ?? '–',
    session.task === 'regression' ? `R² ${session.metrics?.r2?.toFixed(3) ?? '–'}` : percent(session.metrics?.accuracy), session.filename, new Date(session.ended_at ?? session.created_at).toLocaleString(),
    make('span', {className: 'row'}, make('a', {href: to(`/sessions/${session.id}/model`), textContent: 'Model', 'aria-label': `model of ${session.name ?? session.id.slice(0, 8)}`}),
        make('a', {href: to(`/sessions/${session.id}/card`), download: `${session.id}.md`, textContent: 'Card', 'aria-label': `card of ${session.name ?? session.id.slice(0, 8)}`}),
        make('a', {href: to(`/app/new?from=${session.id}`), textContent: 'Train further', 'aria-label': `train ${session.name ?? session.id.slice(0, 8)} further`}))])));
reveal();
