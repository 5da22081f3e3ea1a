import CohortCore
import CohortSystem
import FoundationEssentials
import JWTKit
import Synchronization

/// The claims of a token.
struct Claims: JWTPayload, Hashable {
    enum Scope: String, Codable, Sendable {
        /// A person.
        case user
        /// A join token: it registers machines, and nothing else.
        case peer
        /// One registered machine.
        case machine
    }

    /// The user's id; for a peer the user whose token it is.
    var sub: String
    var scope: Scope
    /// Seconds since 1970.
    var iat: Double
    /// Seconds since 1970; only a join token may have none.
    var exp: Double?
    /// The record of the sign-in or of the join token; a machine's is that of its join token, with which it ends.
    var jti: String?
    /// A machine's id and the number of its registration.
    var peer: String?
    var registration: Int?

    /// Expiry is checked at every use, not only when the token is first seen.
    func verify(using algorithm: some JWTAlgorithm) {}
}

/// Signed tokens, HS256 and nothing else.
final class Tokens: Sendable {
    private let keys = JWTKeyCollection()
    private let verified = Mutex<[String: Claims]>([:])
    /// Tokens remembered, so that a beat does not check a signature each time.
    private static let remembered = 10_000

    init(key: [UInt8]) async throws {
        guard key.count >= KeyFile.length else {
            throw CohortError(.invalid, "the key of the tokens has \(key.count) bytes; it must have at least \(KeyFile.length)")
        }
        await keys.add(hmac: HMACKey(from: key), digestAlgorithm: .sha256)
    }

    func sign(_ claims: Claims) async throws -> String { try await keys.sign(claims) }

    /// - Throws: ``CohortError`` `unauthenticated`, for an expired token, or one that this server did not issue.
    func claims(of token: String, now: Date) async throws -> Claims {
        let claims: Claims
        if let known = verified.withLock({ $0[token] }) {
            claims = known
        } else {
            claims = try await verify(token)
            verified.withLock { verified in
                if verified.count >= Self.remembered { verified.removeAll() }
                verified[token] = claims
            }
        }
        if let expiry = claims.exp, now.timeIntervalSince1970 >= expiry {
            throw CohortError(
                .unauthenticated, "the token has expired: \(claims.scope == .user ? "sign in again" : "make a new join token")")
        }
        return claims
    }

    private func verify(_ token: String) async throws -> Claims {
        do {
            // The library checks with the key it has, whatever the header claims; a header that claims another algorithm is refused
            // before any signature is looked at.
            let (header, _, _) = try DefaultJWTParser().parse([UInt8](token.utf8), as: Claims.self)
            guard header.alg == "HS256" else { throw JWTError.signatureVerificationFailed }
            let claims = try await keys.verify(token, as: Claims.self)
            let isWhole =
                switch claims.scope {
                case .user: claims.exp != nil && claims.jti != nil
                case .peer: claims.jti != nil
                case .machine: claims.jti != nil && claims.peer != nil && claims.registration != nil
                }
            guard isWhole else { throw JWTError.signatureVerificationFailed }
            return claims
        } catch {
            throw CohortError(.unauthenticated, "the token is not one of this server's")
        }
    }
}
