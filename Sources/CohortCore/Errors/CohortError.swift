/// An error with a code that a program can switch on and a sentence that a person can act on: what was wrong, where, and what
/// would be right.
public struct CohortError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Code: String, Codable, Sendable {
        /// Invalid input: a field, a setting, a file's contents. HTTP 400.
        case invalid
        /// No, wrong or expired credentials. HTTP 401.
        case unauthenticated
        /// Credentials that do not reach this far. HTTP 403.
        case forbidden
        /// A new account needs an invitation code that the request has not, or has wrong. HTTP 403.
        case invitationRequired = "invitation_required"
        /// Not there, or not this user's. HTTP 404.
        case notFound = "not_found"
        /// The state does not allow it: an e-mail taken, a lease lost, a stale registration. HTTP 409.
        case conflict
        /// Larger than a limit allows. HTTP 413.
        case tooLarge = "too_large"
        /// Another part is away or not ready yet; trying again later can help. HTTP 503.
        case unavailable
        /// Fewer peers are online and free than a session asks for; trying again later can help. HTTP 400.
        case notEnoughPeers = "not_enough_peers"
        /// No space, or another fault of the machine. HTTP 507.
        case storageFull = "storage_full"
        /// A fault of Cohort's own. HTTP 500.
        case `internal`
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}

extension CohortError {
    /// `true` when the same request may succeed later.
    public var isTransient: Bool { code == .unavailable || code == .notEnoughPeers }
}
