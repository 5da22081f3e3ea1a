import CohortCore
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
    let deletion: AccountDeletion
    let tokenLifetime: Int
    let time: any TimeSource

    var routes: [Route] {
        [
            .open(.post, "/auth/signup", "Make an account", signup),
            .open(.post, "/auth/signin", "Sign in", signin),
            .user(.post, "/auth/password", "Change one's password", changePassword),
            .user(.get, "/auth/me", "Who is signed in", me),
            .user(.delete, "/auth/me", "Delete one's account, with its sessions, models, modules, tokens and machines", deleteAccount),
            .user(.post, "/auth/tokens", "Make a join token for peers", createToken),
            .user(.get, "/auth/tokens", "List one's join tokens") { _, _, caller in
                try .json(try await documents.joinTokens(userId: caller.userId).map { API.Token($0) })
            },
            .user(.delete, "/auth/tokens/{id}", "Revoke a join token", revoke),
        ]
    }

    private func signup(_ request: Request, _ context: Context) async throws -> Response {
        let body = try await request.json(API.Signup.self, fields: ["email", "password", "name"])
        return try .json(
            try await signUp(
                email: body.email, password: body.password, name: body.name, network: clients.network(of: request, context)),
            status: .created)
    }

    /// - Parameter network: of who asks.
    /// - Throws: ``CohortError`` `invalid` for what is no address, name or password, `conflict` for an address that is taken; ``HTTPProblem`` 429
    ///   after too many sign-ups from a network.
    func signUp(email: String, password: String, name: String?, network: String) async throws -> API.AccessToken {
        if let wait = signUps.take(network) { throw Self.tooMany("sign-ups from your network", wait) }
        let email = try AccountRules.email(email)
        let name = try AccountRules.name(name ?? String(email.prefix { $0 != "@" }), field: "name")
        let hash = try await passwords.hash(password, for: network)
        let user = User(id: newIdentifier(), email: email, name: name, passwordHash: hash, createdAt: time.date)
        do {
            try await documents.insert(user)
        } catch let error as CohortError where error.code == .conflict {
            throw CohortError(.conflict, "\(error.message): sign in with its password (`cohort login`), or take another address")
        }
        return try await accessToken(user)
    }

    private func signin(_ request: Request, _ context: Context) async throws -> Response {
        let body = try await request.json(API.Signin.self, fields: ["email", "password"])
        return try .json(try await signIn(email: body.email, password: body.password, network: clients.network(of: request, context)))
    }

    /// - Parameter network: of who asks.
    /// - Throws: ``HTTPProblem`` 401 for a wrong e-mail or password, 429 after too many.
    func signIn(email: String, password: String, network: String) async throws -> API.AccessToken {
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
        return try await accessToken(user)
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

    private static func tooMany(_ what: String, _ wait: Duration) -> HTTPProblem {
        let seconds = max(1, Int(wait.components.seconds) + (wait.components.attoseconds > 0 ? 1 : 0))
        return HTTPProblem(
            status: .tooManyRequests, code: .unavailable, "too many \(what): try again in \(seconds) s",
            headers: [.retryAfter: "\(seconds)"])
    }

    /// Every other sign-in of the person ends with it.
    private func changePassword(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        let body = try await request.json(API.NewPassword.self, fields: ["password", "new_password"])
        let network = clients.network(of: request, context)
        let user = try await confirmed(caller, password: body.password, network)
        let hash = try await passwords.hash(body.newPassword, for: network)
        guard try await documents.setPassword(userId: user.id, hash: hash, at: time.date) else { throw Self.gone }
        authenticator.forget(userId: user.id)
        return try .json(try await accessToken(user))
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

    private func deleteAccount(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        let body = try await request.json(API.Confirmation.self, fields: ["password"])
        let user = try await confirmed(caller, password: body.password, clients.network(of: request, context))
        let tokens = try await documents.joinTokens(userId: user.id)
        try await deletion.delete(user)
        for token in tokens { authenticator.forget(tokenId: token.id) }
        authenticator.forget(userId: user.id)
        return .noContent
    }

    private func accessToken(_ user: User) async throws -> API.AccessToken {
        let now = time.date.timeIntervalSince1970
        let token = try await tokens.sign(Claims(sub: user.id, scope: .user, iat: now, exp: now + Double(tokenLifetime), jti: nil))
        return API.AccessToken(accessToken: token, expiresIn: tokenLifetime)
    }

    private func me(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        try .json(API.Account(try await account(caller)))
    }

    private func account(_ caller: Caller) async throws -> User {
        guard let user = try await documents.user(id: caller.userId) else { throw Self.gone }
        return user
    }

    private static let gone = HTTPProblem(
        CohortError(.unauthenticated, "this account is gone: sign up again"), headers: [.wwwAuthenticate: "Bearer"])

    private func createToken(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
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

    private func revoke(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        let id = try context.parameters.require("id")
        guard try await documents.revokeJoinToken(id: id, userId: caller.userId, at: time.date) else {
            throw CohortError(.notFound, "there is no join token '\(id.prefix(60))' of yours")
        }
        authenticator.forget(tokenId: id)
        return .noContent
    }
}
