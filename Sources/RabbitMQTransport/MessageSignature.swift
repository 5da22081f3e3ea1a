import CohortSystem
import Crypto
import FoundationEssentials

/// Who sent a message, where the broker itself cannot tell: HMAC-SHA-256 over its body with a key of the peer's registration. Servers and
/// coordinators derive every key from one secret that they share; a peer has only its own key, and can sign for no other peer.
public struct MessageSignatures: Sendable {
    private let secret: SymmetricKey

    /// - Parameter secret: the same on every server and coordinator.
    public init(secret: [UInt8]) {
        self.secret = SymmetricKey(
            data: HMAC<SHA256>.authenticationCode(for: Data("cohort peer messages".utf8), using: SymmetricKey(data: secret)))
    }

    /// 32 bytes as 64 hexadecimal digits: what registering answers.
    public func key(peerId: String, registration: Int) -> String {
        HMAC<SHA256>.authenticationCode(for: Data("\(registration) \(peerId)".utf8), using: secret).hexadecimal
    }

    /// 64 hexadecimal digits. The key's digits themselves are the HMAC's key, so that no language has to decode them.
    public static func sign(_ body: [UInt8], key: String) -> String {
        HMAC<SHA256>.authenticationCode(for: body, using: SymmetricKey(data: Data(key.utf8))).hexadecimal
    }

    /// Takes the same time wherever it differs.
    func isGood(_ signature: String, of body: [UInt8], peerId: String, registration: Int) -> Bool {
        let right = Self.sign(body, key: key(peerId: peerId, registration: registration))
        guard right.utf8.count == signature.utf8.count else { return false }
        return zip(right.utf8, signature.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
