import CohortCore
import CohortSession
import Hummingbird

/// The page of models.
struct ModelsPage: Sendable {
    let pages: WebPages

    static let template = #"""
        {{<layout}}{{$main}}
        <h1>Models</h1>
        <p class="muted">Of sessions that have completed, newest first. A model is one <code>.safetensors</code> file, which predicts with <code>cohort predict</code>, from Python, or here.</p>
        <div id="models"><p class="muted">Loading…</p></div>
        {{/main}}{{/layout}}
        """#

    static let script = #"""
        import {$, make, call, percent, table, to} from './app.js';

        const sessions = (await call('GET', '/sessions?limit=200')).filter(session => session.status === 'COMPLETED');
        $('models').replaceChildren(sessions.length === 0 ? make('p', {}, 'There is none yet. ', make('a', {href: to('/app/new'), textContent: 'Train one'}), '.') : table(['Model', {name: 'Version', number: true}, 'Predicts', {name: 'Score', number: true}, 'Data', 'Trained', 'Files'], sessions.map(session => [
            make('a', {href: to(`/app/session/${session.id}`), textContent: session.name ?? session.filename}), String(session.version ?? 1), session.target ?? '–',
            session.task === 'regression' ? `R² ${session.metrics?.r2?.toFixed(3) ?? '–'}` : percent(session.metrics?.accuracy), session.filename, new Date(session.ended_at ?? session.created_at).toLocaleString(),
            make('span', {className: 'row'}, make('a', {href: to(`/sessions/${session.id}/model`), textContent: 'Model', 'aria-label': `model of ${session.name ?? session.id.slice(0, 8)}`}),
                make('a', {href: to(`/sessions/${session.id}/card`), download: `${session.id}.md`, textContent: 'Card', 'aria-label': `card of ${session.name ?? session.id.slice(0, 8)}`}),
                make('a', {href: to(`/app/new?from=${session.id}`), textContent: 'Train further', 'aria-label': `train ${session.name ?? session.id.slice(0, 8)} further`}))])));
        """#

    var routes: [Route] {
        [
            pages.route(.get, "/app/models", summary: "The page of models") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/models") }
                return pages.page(request, template: "models", title: "Models", person: person.name, scripts: ["models.js"])
            }
        ]
    }
}
