import CohortCore
import CohortSession
import Hummingbird

/// All sessions in one table, and those that are chosen side by side.
struct SessionsPage: Sendable {
    let pages: WebPages

    var routes: [Route] {
        [
            pages.route(.get, "/app/sessions", summary: "The page of all sessions") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/sessions") }
                return pages.page(request, template: "sessions", title: "Sessions", person: person.name, scripts: ["sessions.js"])
            },
            // The address of earlier versions.
            pages.route(.get, "/app/compare", summary: "Moved to the page of all sessions") { request, _ in
                let ids = ["a", "b"].compactMap { request.query($0) }.filter { id in
                    id.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }
                }
                return pages.redirect(to: "/app/sessions" + (ids.isEmpty ? "" : "?of=\(ids.joined(separator: ","))"))
            },
        ]
    }
}
