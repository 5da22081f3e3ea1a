import CohortAPI
import CohortCore
import CohortSession
import HTTPTypes
import Hummingbird

/// The API, to read and to try.
struct DocsPage: Sendable {
    let pages: WebPages

    var route: Route {
        pages.route(.get, "/docs", summary: "This API, to read and to try") { request, _ in
            pages.page(
                request, template: "docs", title: "API", person: try await pages.person(request)?.name, scripts: ["docs.js"])
        }
    }
}
