import CohortCore
import CohortSession
import Hummingbird

/// Two sessions side by side.
struct ComparePage: Sendable {
    let pages: WebPages

    var routes: [Route] {
        [
            pages.route(.get, "/app/compare", summary: "The page that compares two sessions") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/compare") }
                return pages.page(request, template: "compare", title: "Compare", person: person.name, scripts: ["compare.js"])
            }
        ]
    }
}
