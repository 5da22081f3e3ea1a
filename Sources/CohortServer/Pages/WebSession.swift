import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// A person in a browser: the sign-in is a cookie that no script can read, and what changes something carries a CSRF token that only our own pages
/// know. The token is an HMAC of the sign-in (before one, of a random cookie), so that no other sign-in's is of use.
struct WebSession: Sendable {
    static let csrfHeader = "X-CSRF-Token"
    static let csrfField = "csrf"

    /// Browsers reach the server over TLS.
    let isSecure: Bool
    /// The path that a proxy has put before all others, such as `/cohort`; empty at the root.
    let basePath: String
    private let key: SymmetricKey

    /// - Parameter key: the key of the tokens.
    init(key: [UInt8], isSecure: Bool, basePath: String) {
        self.isSecure = isSecure
        self.basePath = basePath
        self.key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: key), info: [UInt8]("cohort csrf".utf8), outputByteCount: 32)
    }

    /// The cookie of the sign-in. Browsers take `__Host-` from TLS at the root alone, `__Secure-` from TLS alone (RFC 6265bis, 4.1.3).
    var cookie: String { prefix + "cohort_session" }

    /// A random value of who is not signed in.
    private var visitorCookie: String { prefix + "cohort_visitor" }

    private var prefix: String { !isSecure ? "" : basePath.isEmpty ? "__Host-" : "__Secure-" }

    /// The sign-in's token, if the browser sent one.
    func token(_ request: Request) -> String? { value(of: cookie, in: request).flatMap { $0.isEmpty ? nil : $0 } }

    /// The CSRF token that this browser's forms and scripts must send.
    /// - Returns: the token and, for a browser that has no cookie yet, the cookie that goes with it.
    func csrf(_ request: Request) -> (token: String, newCookie: String?) {
        if let known = secret(request) { return (csrf(of: known), nil) }
        let visitor = newIdentifier()
        return (csrf(of: visitor), setting(visitorCookie, visitor, sameSite: "Strict", seconds: nil))
    }

    private func secret(_ request: Request) -> String? {
        token(request) ?? value(of: visitorCookie, in: request).flatMap { $0.utf8.count == 36 ? $0 : nil }
    }

    private func csrf(of secret: String) -> String {
        HMAC<SHA256>.authenticationCode(for: [UInt8](secret.utf8), using: key).hexadecimal
    }

    /// - Parameter sent: from the form's field or the header.
    /// - Throws: ``CohortError`` `forbidden` when another site may be behind the request.
    func check(_ request: Request, sent: String?) throws {
        let isOwn =
            request.headers[.origin].map { origin in
                guard let host = request.head.authority else { return false }
                return origin.lowercased().split(separator: "/").last.map(String.init) == host.lowercased()
            } ?? true
        guard isOwn, let sent, let known = secret(request), Self.equal(sent, csrf(of: known)) else {
            throw CohortError(.forbidden, "this did not come from a page of this server, or its cookies are gone: load the page again")
        }
    }

    /// Compares two texts in constant time.
    private static func equal(_ a: String, _ b: String) -> Bool {
        let (a, b) = (Array(a.utf8), Array(b.utf8))
        return a.count == b.count && zip(a, b).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }

    /// The value of `Set-Cookie` that signs in.
    func signingIn(_ token: String, seconds: Int) -> String { setting(cookie, token, sameSite: "Lax", seconds: seconds) }

    /// The value of `Set-Cookie` that signs out.
    var signingOut: String { setting(cookie, "", sameSite: "Lax", seconds: 0) }

    private func setting(_ name: String, _ value: String, sameSite: String, seconds: Int?) -> String {
        let path = basePath.isEmpty ? "/" : basePath
        let age = seconds.map { "; Max-Age=\($0)" } ?? ""
        return "\(name)=\(value); Path=\(path); HttpOnly; SameSite=\(sameSite)\(age)\(isSecure ? "; Secure" : "")"
    }

    private func value(of name: String, in request: Request) -> String? {
        for header in request.headers[values: .cookie] {
            for pair in header.split(separator: ";") {
                let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                if sides.count == 2, String(sides[0]).trimmed == name { return String(sides[1]).trimmed }
            }
        }
        return nil
    }
}
