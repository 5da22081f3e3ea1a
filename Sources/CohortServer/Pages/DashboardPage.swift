import CohortCore
import CohortSession
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Who is there, and what was trained.
struct DashboardPage: Sendable {
    let pages: WebPages
    let join: JoinOffer
    let isTLS: Bool

    var routes: [Route] {
        [
            pages.route(.get, "/", summary: "The dashboard") { request, context in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin") }
                let host = request.browserHost ?? "SERVER"
                let server = "\(isTLS || join.isBehindProxy ? "https" : "http")://\(host)\(pages.web.basePath)"
                var values: [String: Any] = ["server": server]
                if let pins = join.pins { values["fingerprint"] = pins.certificate }
                if join.archive != nil {
                    let pinned = join.pins.map { " --insecure --pinnedpubkey 'sha256//\($0.publicKey)'" } ?? ""
                    values["install"] = "curl -fsS\(pinned) \(server)/join | sh -s -- TOKEN"
                }
                return pages.page(
                    request, template: "dashboard", title: "Dashboard", person: person.name, scripts: ["dashboard.js"], values: values)
            }
        ]
    }
}
