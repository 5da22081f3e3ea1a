import CohortCore
import CohortSession
import Hummingbird

/// The page of models.
struct ModelsPage: Sendable {
    let pages: WebPages

    var routes: [Route] {
        [
            pages.route(.get, "/app/models", summary: "The page of models") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/models") }
                return pages.page(request, template: "models", title: "Models", person: person.name, scripts: ["models.js"])
            }
        ]
    }
}
