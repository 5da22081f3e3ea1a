import CohortCore

/// Who may make an account.
public enum SignUpRule: Sendable, Equatable {
    /// Anybody who reaches the server.
    case open
    /// Users with one of these codes.
    case invited(codes: [String])
    /// No user.
    case closed

    /// Characters of a code, at the least.
    public static let shortest = 8
    private static let longest = 64

    /// Codes that are compared without regard to case, hyphens and spaces.
    /// - Parameter texts: as an operator has written them.
    /// - Throws: ``CohortError`` `invalid` for a code that is too short, too long, or empty.
    public static func invited(by texts: [String]) throws -> SignUpRule {
        .invited(
            codes: try texts.map { text in
                let code = normalized(text)
                guard (shortest...longest).contains(code.count) else {
                    throw CohortError(
                        .invalid,
                        "an invitation code has \(code.count) letters and digits; it must have from \(shortest) to \(longest)")
                }
                return code
            })
    }

    /// Ten letters and digits that are not taken for each other, 50 bits: `K7QM2-XW9PD`.
    public static func newCode() -> String {
        let alphabet = Array("23456789ABCDEFGHJKLMNPQRSTUVWXYZ")
        var generator = SystemRandomNumberGenerator()
        let code = (0..<10).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] }
        return String(code[..<5]) + "-" + String(code[5...])
    }

    private static func normalized(_ code: String) -> String { code.uppercased().filter { !$0.isWhitespace && $0 != "-" } }

    /// - Throws: ``CohortError``: `forbidden` when no account can be made, `invitationRequired` without a code that is known.
    func check(_ invitation: String?) throws {
        switch self {
        case .open: return
        case .closed: throw CohortError(.forbidden, "this server takes no new accounts: ask its operator")
        case .invited(let codes):
            guard let invitation, !invitation.isEmpty else {
                throw CohortError(
                    .invitationRequired, "new accounts on this server need an invitation code: ask its operator")
            }
            let given = Array(Self.normalized(String(invitation.prefix(200))).utf8)
            // Each in a time that does not depend on where they differ.
            let isKnown = codes.map { code in
                let code = Array(code.utf8)
                return code.count == given.count && zip(code, given).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
            }.contains(true)
            guard isKnown else {
                throw CohortError(.invitationRequired, "this invitation code is not valid: ask the server's operator")
            }
        }
    }
}
