import CohortAPI
import CohortCore
import CohortSession
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Accounts, sign-in, join tokens.
struct AuthRoutes: Sendable {
    let documents: any Documents
    let tokens: Tokens
    let authenticator: Authenticator
    let passwords: Passwords
    let limiter: SignInLimiter
    /// Sign-ups, by network.
    let signUps: RateLimiter
    let clients: ClientAddress
    let signUpRule: SignUpRule
    let deletion: AccountDeletion
    let tokenLifetime: Int
    let time: any TimeSource

    var routes: [Route] {
        [
            .open(.post, "/auth/signup", summary: "Make an account", signup),
            .open(.post, "/auth/signin", summary: "Sign in", signin),
            .user(.post, "/auth/signout", summary: "Sign out: end the sign-in that the request is made with") { _, _, caller in
                if let id = caller.signInId { _ = try await endSignIn(id, of: caller.userId) }
                return .noContent
            },
            .user(.get, "/auth/signins", summary: "List one's sign-ins") { _, _, caller in
                let now = time.date
                return try .json(
                    try await documents.signIns(userId: caller.userId).filter { $0.expiresAt > now }
                        .map { API.SignInView($0, current: $0.id == caller.signInId) })
            },
            .user(.delete, "/auth/signins/{id}", summary: "End one of one's sign-ins") { _, context, caller in
                let id = try context.parameters.require("id")
                guard try await endSignIn(id, of: caller.userId) else {
                    throw CohortError(.notFound, "there is no sign-in '\(id.printable(max: 60))' of yours")
                }
                return .noContent
            },
            .user(.post, "/auth/password", summary: "Change one's password", changePassword),
            .user(.get, "/auth/me", summary: "Who is signed in", me),
            .user(
                .delete, "/auth/me", summary: "Delete one's account, with its sessions, models, modules, tokens and machines", deleteAccount
            ),
            .user(.post, "/auth/tokens", summary: "Make a join token for peers", createToken),
            .user(.get, "/auth/tokens", summary: "List one's join tokens") { _, _, caller in
                try .json(try await documents.joinTokens(userId: caller.userId).map { API.Token($0) })
            },
            .user(.delete, "/auth/tokens/{id}", summary: "Revoke a join token", revoke),
        ]
    }

    private func signup(_ request: Request, _ context: Context) async throws -> Response {
        let body = try await request.json(API.Signup.self, fields: ["email", "password", "name", "invitation"])
        return try .json(try await signUp(body, from: origin(of: request, context)), status: .created)
    }

    /// The origin of a sign-in.
    struct Origin: Sendable {
        var network: String
        var client: String
    }

    func origin(of request: Request, _ context: Context) -> Origin {
        let client = (request.headers[.userAgent] ?? "").printable(max: SignIn.clientLength)
        return Origin(network: clients.network(of: request, context), client: client.isEmpty ? "unknown" : client)
    }

    /// - Throws: ``CohortError`` `invalid` for what is no address, name or password, `conflict` for an address that is taken, `forbidden` or
    ///   `invitationRequired` where an invitation code is needed; ``HTTPProblem`` 429 after too many sign-ups from a network.
    func signUp(_ body: API.Signup, from origin: Origin) async throws -> API.AccessToken {
        let network = origin.network
        if let wait = signUps.acquire(network) { throw Self.tooMany("sign-ups from your network", wait) }
        try signUpRule.check(body.invitation)
        let email = try AccountRules.email(body.email)
        let name = try AccountRules.name(body.name ?? String(email.prefix { $0 != "@" }), field: "name")
        let hash = try await passwords.hash(body.password, for: network)
        let user = User(id: newIdentifier(), email: email, name: name, passwordHash: hash, createdAt: time.date)
        do {
            try await documents.insert(user)
        } catch let error as CohortError where error.code == .conflict {
            throw CohortError(.conflict, "\(error.message): sign in with its password (`cohort login`), or take another address")
        }
        return try await accessToken(user, origin)
    }

    private func signin(_ request: Request, _ context: Context) async throws -> Response {
        let body = try await request.json(API.Signin.self, fields: ["email", "password"])
        return try .json(try await signIn(email: body.email, password: body.password, from: origin(of: request, context)))
    }

    /// - Throws: ``HTTPProblem`` 401 for a wrong e-mail or password, 429 after too many.
    func signIn(email: String, password: String, from origin: Origin) async throws -> API.AccessToken {
        let network = origin.network
        let email = email.trimmed.lowercased()
        // It becomes a key of the limiter's.
        guard email.utf8.count <= 254 else {
            throw CohortError(.invalid, "the e-mail address has \(email.utf8.count) bytes; it must have at most 254")
        }
        var user: User?
        let isRight = try await attempt(at: email, from: network) {
            user = try await documents.user(email: email)
            return try await passwords.verify(password, against: user?.passwordHash, for: network)
        }
        guard isRight, let user else {
            throw HTTPProblem(CohortError(.unauthenticated, "the e-mail or the password is wrong"), headers: [.wwwAuthenticate: "Bearer"])
        }
        return try await accessToken(user, origin)
    }

    /// Ends a sign-in: its token holds no more.
    /// - Returns: false when this user has none with the id.
    private func endSignIn(_ id: String, of userId: String) async throws -> Bool {
        let isEnded = try await documents.deleteSignIn(id: id, userId: userId)
        authenticator.forget(tokenId: id)
        return isEnded
    }

    /// Ends the sign-in that a browser's cookie holds; without one, or with one that has ended, does nothing.
    func signOut(_ request: Request) async throws {
        guard let (id, userId) = await authenticator.signIn(of: request) else { return }
        _ = try await endSignIn(id, of: userId)
    }

    /// One attempt at a password, counted from its beginning: many at once are as many attempts.
    /// - Throws: ``HTTPProblem`` 429 when it has to wait.
    private func attempt(at account: String, from network: String, _ verify: () async throws -> Bool) async throws -> Bool {
        if let wait = limiter.begin(account: account, network: network) { throw Self.tooMany("wrong passwords", wait) }
        let isRight: Bool
        do {
            isRight = try await verify()
        } catch {
            limiter.cancelled(account: account, network: network)
            throw error
        }
        if isRight {
            limiter.succeeded(account: account, network: network)
        } else {
            limiter.failed(account: account, network: network)
        }
        return isRight
    }

    static func tooMany(_ what: String, _ wait: Duration) -> HTTPProblem {
        let seconds = max(1, Int(wait.components.seconds) + (wait.components.attoseconds > 0 ? 1 : 0))
        return HTTPProblem(
            status: .tooManyRequests, code: .unavailable, "too many \(what): try again in \(seconds) s",
            headers: [.retryAfter: "\(seconds)"])
    }

    /// Every other sign-in of the person ends with it.
    private func changePassword(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let body = try await request.json(API.NewPassword.self, fields: ["password", "new_password"])
        let origin = origin(of: request, context)
        let network = origin.network
        let user = try await confirmed(caller, password: body.password, network)
        let hash = try await passwords.hash(body.newPassword, for: network)
        guard try await documents.setPassword(userId: user.id, hash: hash, at: time.date) else { throw Self.gone }
        for signIn in try await documents.signIns(userId: user.id) { authenticator.forget(tokenId: signIn.id) }
        try await documents.deleteSignIns(userId: user.id)
        authenticator.forget(userId: user.id)
        return try .json(try await accessToken(user, origin))
    }

    /// The caller's account, once its password is confirmed.
    /// - Throws: ``CohortError`` `forbidden` for a wrong password.
    private func confirmed(_ caller: Caller, password: String, _ network: String) async throws -> User {
        let user = try await account(caller)
        let isRight = try await attempt(at: user.email, from: network) {
            try await passwords.verify(password, against: user.passwordHash, for: network)
        }
        guard isRight else { throw CohortError(.forbidden, "the current password is incorrect: nothing was changed") }
        return user
    }

    private func deleteAccount(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let body = try await request.json(API.Confirmation.self, fields: ["password"])
        let user = try await confirmed(caller, password: body.password, clients.network(of: request, context))
        let tokens = try await documents.joinTokens(userId: user.id).map(\.id) + documents.signIns(userId: user.id).map(\.id)
        try await deletion.delete(user)
        for id in tokens { authenticator.forget(tokenId: id) }
        authenticator.forget(userId: user.id)
        return .noContent
    }

    private func accessToken(_ user: User, _ origin: Origin) async throws -> API.AccessToken {
        let now = time.date
        let signIn = SignIn(
            id: newIdentifier(), userId: user.id, client: origin.client, network: origin.network, createdAt: now,
            expiresAt: now.addingTimeInterval(Double(tokenLifetime)))
        try await documents.insert(signIn)
        let token = try await tokens.sign(
            Claims(
                sub: user.id, scope: .user, iat: now.timeIntervalSince1970, exp: signIn.expiresAt.timeIntervalSince1970, jti: signIn.id))
        return API.AccessToken(accessToken: token, expiresIn: tokenLifetime)
    }

    private func me(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        try .json(API.Account(try await account(caller)))
    }

    private func account(_ caller: Caller) async throws -> User {
        guard let user = try await documents.user(id: caller.userId) else { throw Self.gone }
        return user
    }

    private static let gone = HTTPProblem(
        CohortError(.unauthenticated, "this account is gone: sign up again"), headers: [.wwwAuthenticate: "Bearer"])

    private func createToken(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let body = try await request.json(API.NewToken.self, fields: ["name", "expires_in"])
        if let seconds = body.expiresIn, !(60...315_360_000).contains(seconds) {
            throw CohortError(.invalid, "expires_in is \(seconds); it must be seconds from 60 to 315360000, or absent")
        }
        guard try await documents.user(id: caller.userId) != nil else {
            throw CohortError(.notFound, "this account is gone: sign up again")
        }
        let now = time.date
        let record = JoinToken(
            id: newIdentifier(), userId: caller.userId, name: try AccountRules.name(body.name ?? "peers", field: "name"), createdAt: now,
            expiresAt: body.expiresIn.map { now.addingTimeInterval(Double($0)) })
        try await documents.insert(record)
        let token = try await tokens.sign(
            Claims(
                sub: caller.userId, scope: .peer, iat: now.timeIntervalSince1970, exp: record.expiresAt?.timeIntervalSince1970,
                jti: record.id))
        return try .json(API.Token(record, token: token), status: .created)
    }

    private func revoke(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let id = try context.parameters.require("id")
        guard try await documents.revokeJoinToken(id: id, userId: caller.userId, at: time.date) else {
            throw CohortError(.notFound, "there is no join token '\(id.prefix(60))' of yours")
        }
        authenticator.forget(tokenId: id)
        return .noContent
    }
}
