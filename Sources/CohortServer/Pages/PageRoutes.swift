import CohortCore
import HTTPTypes
import Hummingbird

/// What a browser sees.
struct PageRoutes: Sendable {
    var routes: [Route] {
        [
            .open(.get, "/", "What this server is, for people") { request, _ in
                .page(Page.start.replacing("{{HOST}}", with: Self.host(request) ?? "SERVER"))
            },
            .open(.get, "/docs", "This API, to read and to try") { _, _ in .page(Page.docs) },
        ]
    }

    /// As the browser reached it; what could end a word of a command line is left out.
    static func host(_ request: Request) -> String? {
        guard let host = request.head.authority, !host.isEmpty else { return nil }
        return host.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || ".:-[]".contains($0)) } ? host : nil
    }
}

extension Response {
    /// A page of its own: nothing is loaded from elsewhere, and nobody may put it into a frame.
    fileprivate static func page(_ html: String) -> Response {
        var response = Response.text(html, type: "text/html; charset=utf-8")
        response.headers[.contentSecurityPolicy] =
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        response.headers[.cacheControl] = "no-cache"
        return response
    }
}
