import CohortCore
import CohortSession
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Who one is, one's password, one's join tokens.
struct AccountPage: Sendable {
    let pages: WebPages

    var routes: [Route] {
        [
            pages.route(.get, "/app/account", summary: "The page of the account") { request, _ in
                guard let person = try await pages.person(request) else {
                    return pages.redirect(to: "/app/signin?next=/app/account")
                }
                return pages.page(
                    request, template: "account", title: "Account", person: person.name, scripts: ["account.js"],
                    values: ["email": person.email])
            }
        ]
    }
}
