import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// A person in a browser: the sign-in is a cookie that no script can read, and what changes something carries a token that only our own pages
/// know (double submit).
enum WebSession {
    static let cookie = "cohort_session"
    private static let csrfCookie = "cohort_csrf"
    static let csrfHeader = "X-CSRF-Token"
    static let csrfField = "csrf"

    /// The sign-in's token, if the browser sent one.
    static func token(_ request: Request) -> String? { value(of: cookie, in: request) }

    /// What this browser's forms and scripts must send; made when it has none yet.
    static func csrf(_ request: Request) -> (token: String, isNew: Bool) {
        if let token = value(of: csrfCookie, in: request), token.utf8.count == 36 { return (token, false) }
        return (newIdentifier(), true)
    }

    /// - Parameter sent: from the form's field or the header.
    /// - Throws: ``CohortError`` `forbidden` when another site may be behind the request.
    static func check(_ request: Request, sent: String?) throws {
        let isOwn =
            request.headers[.origin].map { origin in
                guard let host = request.head.authority else { return false }
                return origin.lowercased().split(separator: "/").last.map(String.init) == host.lowercased()
            } ?? true
        guard isOwn, let sent, let known = value(of: csrfCookie, in: request), known.utf8.count == 36, equal(sent, known) else {
            throw CohortError(.forbidden, "this did not come from a page of this server, or its cookies are gone: load the page again")
        }
    }

    /// In a time that says nothing of where they differ.
    private static func equal(_ a: String, _ b: String) -> Bool {
        let (a, b) = (Array(a.utf8), Array(b.utf8))
        return a.count == b.count && zip(a, b).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }

    static func setting(_ token: String, seconds: Int, isSecure: Bool) -> String {
        "\(cookie)=\(token); Path=/; HttpOnly; SameSite=Lax; Max-Age=\(seconds)\(isSecure ? "; Secure" : "")"
    }

    static func settingCSRF(_ token: String, isSecure: Bool) -> String {
        "\(csrfCookie)=\(token); Path=/; HttpOnly; SameSite=Strict\(isSecure ? "; Secure" : "")"
    }

    static func clearing(isSecure: Bool) -> String { setting("", seconds: 0, isSecure: isSecure) }

    private static func value(of name: String, in request: Request) -> String? {
        for header in request.headers[values: .cookie] {
            for pair in header.split(separator: ";") {
                let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                if sides.count == 2, String(sides[0]).trimmed == name { return String(sides[1]).trimmed }
            }
        }
        return nil
    }
}
