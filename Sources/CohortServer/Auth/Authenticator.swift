import CohortCore
import CohortSession
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Synchronization

/// Who asks.
struct Caller: Sendable {
    /// The user; for a peer the owner of its join token.
    var userId: String
    /// A person's sign-in.
    var signInId: String?
    /// A peer's join token.
    var tokenId: String?
    /// A registered machine, and its registration's number.
    var peer: (id: String, registration: Int)?
}

/// Finds the caller of a request by its bearer token.
final class Authenticator: Sendable {
    let tokens: Tokens
    private let documents: any Documents
    private let time: any TimeSource
    private let web: WebSession
    /// Join tokens and sign-ins found good, and until when that is believed. What another server ends is seen within that time; what this one
    /// ends, at once.
    private let good = Mutex<[String: ContinuousClock.Instant]>([:])
    /// Requests, by the credential that they are made with.
    private let requests: RateLimiter
    private static let believed = Duration.seconds(30)
    /// When users changed their passwords, and until when that is believed.
    private let changes = Mutex<[String: (at: Date?, until: ContinuousClock.Instant)]>([:])

    init(tokens: Tokens, documents: any Documents, time: any TimeSource, web: WebSession, requests: RateLimiter) {
        self.requests = requests
        self.tokens = tokens
        self.web = web
        self.time = time
        self.documents = documents
    }

    /// - Throws: ``HTTPProblem`` 401 without a good token, 403 when it is one of the other kind.
    func caller(of request: Request, scope: Claims.Scope) async throws -> Caller {
        do {
            let claims = try await tokens.claims(of: try bearer(request, scope), now: time.date)
            // A join token can only register peers, which has a separate limit.
            if claims.scope != .peer, let wait = requests.acquire(claims.peer ?? claims.jti ?? claims.sub) {
                throw AuthRoutes.tooMany("requests", wait)
            }
            guard claims.scope == scope else {
                throw CohortError(.forbidden, Self.wrong(claims.scope, for: scope))
            }
            var caller = Caller(userId: claims.sub)
            if scope == .user {
                try await checkNotOutdated(claims)
                if let id = claims.jti { try await checkGood(signIn: id, of: claims.sub) }
                caller.signInId = claims.jti
            } else {
                if let id = claims.jti { try await checkGood(joinToken: id) }
                caller.tokenId = claims.jti
            }
            if let peer = claims.peer, let registration = claims.registration { caller.peer = (peer, registration) }
            return caller
        } catch let error as CohortError where error.code == .unauthenticated {
            throw HTTPProblem(error, headers: [.wwwAuthenticate: "Bearer"])
        }
    }

    private static func wrong(_ found: Claims.Scope, for wanted: Claims.Scope) -> String {
        switch (found, wanted) {
        case (.peer, .user): "this is a join token: it lets a machine join as a peer, and nothing else. Sign in for this"
        case (.machine, .user): "this is a peer's credential: sign in for this"
        case (.peer, .machine): "this is a join token, which only registers: use the credential that POST /peers answered"
        case (.machine, .peer): "this is a peer's credential: registering takes a join token"
        case (_, .peer): "this is for peers: it takes a join token (POST /auth/tokens), not a sign-in"
        default: "this is for peers: it takes the credential that POST /peers answered, not a sign-in"
        }
    }

    /// The sign-in that a browser's cookie names, ended or not; nil: none of this server's.
    func signIn(of request: Request) async -> (id: String, userId: String)? {
        // A token that this server did not issue belongs to no sign-in.
        guard let token = web.token(request), let claims = try? await tokens.claims(of: token, now: time.date),
            claims.scope == .user, let id = claims.jti
        else { return nil }
        return (id, claims.sub)
    }

    /// Returns whether this is a credential of the peer, of any of its registrations.
    func isCredential(_ token: String, ofPeer id: String, ownerId: String) async -> Bool {
        guard let claims = try? await tokens.claims(of: token, now: time.date) else { return false }
        return claims.scope == .machine && claims.peer == id && claims.sub == ownerId
    }

    /// Forgets a join token that is revoked, or a sign-in that has ended.
    func forget(tokenId: String) { good.withLock { $0[tokenId] = nil } }

    /// Returns the bearer token, or a browser's cookie; a request from a browser that changes something must carry a CSRF token.
    private func bearer(_ request: Request, _ scope: Claims.Scope) throws -> String {
        guard let header = request.headers[.authorization] else {
            if scope == .user, let token = web.token(request) {
                if request.method != .get, request.method != .head {
                    try web.check(request, sent: HTTPField.Name(WebSession.csrfHeader).flatMap { request.headers[$0] })
                }
                return token
            }
            throw CohortError(.unauthenticated, "this needs a token: sign in, and send it as `Authorization: Bearer TOKEN`")
        }
        let parts = header.split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else {
            throw CohortError(.unauthenticated, "the Authorization header must be `Bearer TOKEN`")
        }
        return String(parts[1])
    }

    /// Forgets a user's password date after a change.
    func forget(userId: String) { changes.withLock { $0[userId] = nil } }

    /// A change of the password ends sign-ins from before it.
    private func checkNotOutdated(_ claims: Claims) async throws {
        let changedAt: Date?
        if let known = changes.withLock({ $0[claims.sub] }), .now < known.until {
            changedAt = known.at
        } else {
            // What a deleted user's token may do is for the routes.
            changedAt = try await documents.user(id: claims.sub)?.passwordChangedAt
            changes.withLock { changes in
                if changes.count >= 10_000 { changes.removeAll() }
                changes[claims.sub] = (changedAt, .now + Self.believed)
            }
        }
        // Stores keep milliseconds.
        if let changedAt, claims.iat + 0.001 < changedAt.timeIntervalSince1970 {
            throw CohortError(.unauthenticated, "the password was changed since: sign in again")
        }
    }

    /// - Throws: ``CohortError`` `unauthenticated` for a sign-in that was ended.
    private func checkGood(signIn id: String, of userId: String) async throws {
        if let until = good.withLock({ $0[id] }), .now < until { return }
        if try await documents.signIn(id: id)?.userId != userId {
            // A deleted account's sign-ins are gone with it; what such a token may do is for the routes.
            guard try await documents.user(id: userId) == nil else {
                throw CohortError(.unauthenticated, "this sign-in was ended: sign in again")
            }
        }
        believe(id, for: Self.believed)
    }

    private func believe(_ id: String, for duration: Duration) {
        good.withLock { good in
            if good.count >= 10_000 { good.removeAll() }
            good[id] = .now + duration
        }
    }

    /// - Throws: ``CohortError`` `unauthenticated` for a join token that was revoked, has expired, or is gone with its account.
    func checkGood(joinToken id: String) async throws {
        if let until = good.withLock({ $0[id] }), .now < until { return }
        guard let record = try await documents.joinToken(id: id), record.revokedAt == nil else {
            throw CohortError(.unauthenticated, "this join token was revoked: ask its owner for another")
        }
        // A machine's credential names the token that it registered with, and ends with it.
        var believed = Self.believed
        if let left = record.expiresAt?.timeIntervalSince(time.date) {
            guard left > 0 else { throw CohortError(.unauthenticated, "this join token has expired: ask its owner for another") }
            believed = min(believed, .seconds(left))
        }
        believe(id, for: believed)
    }
}
