public import AsyncHTTPClient
public import CohortAPI
import CohortCore
public import Logging
public import NIOCore
public import NIOSSL

/// The HTTP API of a Cohort server, typed. Every method throws ``CohortError``: with the server's own code and sentence when it
/// refuses, `unavailable` when it cannot be reached; and `CancellationError` when the task is cancelled.
public struct CohortClient: Sendable {
    public let server: ServerURL
    let http: HTTPClient
    let logger: Logger
    let caller: HTTPCaller

    /// - Parameters:
    ///   - token: the user's access token, or the peer's join token; nil for signing up and in.
    ///   - http: one for the process, made by `HTTPClient`; its creator
    ///     shuts it down.
    public init(server: ServerURL, token: String? = nil, http: HTTPClient, logger: Logger = Logger(label: "cohort.client")) {
        self.server = server
        self.http = http
        self.logger = logger
        caller = HTTPCaller(http: http, server: server, token: token)
    }

    /// The same client with a token.
    public func authenticated(by token: String) -> CohortClient {
        CohortClient(server: server, token: token, http: http, logger: logger)
    }

    /// Carries objects to and from presigned links, which need no token.
    public var objects: ObjectTransfer { ObjectTransfer(http: http, server: server, logger: logger) }

    // MARK: Accounts

    /// - Parameter invitation: a code, where the server takes new accounts by invitation alone.
    /// - Throws: ``CohortError`` `invitationRequired` where it is missing or wrong, `conflict` for an address that has an account.
    public func signup(email: String, password: String, name: String? = nil, invitation: String? = nil) async throws -> API.AccessToken {
        try await caller.fetch(
            .post("auth", "signup", json: API.Signup(email: email, password: password, name: name, invitation: invitation)))
    }

    public func signin(email: String, password: String) async throws -> API.AccessToken {
        try await caller.fetch(.post("auth", "signin", json: API.Signin(email: email, password: password)))
    }

    /// Ends the sign-in that this client has.
    public func signout() async throws { try await caller.send(.post("auth", "signout")) }

    /// Newest first.
    public func signIns() async throws -> [API.SignInView] { try await caller.fetch(.get("auth", "signins")) }

    public func endSignIn(id: String) async throws { try await caller.send(.delete("auth", "signins", id)) }

    /// Deletes the account, with its sessions, models, modules, join tokens and machines.
    public func deleteAccount(password: String) async throws {
        try await caller.send(try .delete("auth", "me", json: API.Confirmation(password: password)))
    }

    /// - Returns: a new sign-in: all others end.
    public func changePassword(from old: String, to new: String) async throws -> API.AccessToken {
        try await caller.fetch(.post("auth", "password", json: API.NewPassword(password: old, newPassword: new)))
    }

    public func me() async throws -> API.Account { try await caller.fetch(.get("auth", "me")) }

    /// A join token for peers; its text is in `token`, this once.
    public func createToken(_ token: API.NewToken = API.NewToken()) async throws -> API.Token {
        try await caller.fetch(.post("auth", "tokens", json: token))
    }

    public func tokens() async throws -> [API.Token] { try await caller.fetch(.get("auth", "tokens")) }

    public func revokeToken(id: String) async throws { try await caller.send(.delete("auth", "tokens", id)) }

    // MARK: The pool

    public func peers() async throws -> [API.PeerView] { try await caller.fetch(.get("peers")) }

    /// Checks that the server is ready.
    /// - Throws: `unavailable` with the reason.
    public func health() async throws { try await caller.send(.get("health", "ready")) }

    // MARK: As a peer

    /// Joins the pool, or comes back to it.
    public func register(_ registration: API.Registration) async throws -> API.Registered {
        try await caller.fetch(.post("peers", json: registration))
    }

    /// "I am here."
    /// - Parameters:
    ///   - command: the id of the newest command that is accepted, see the server's acknowledgements in docs/protocol.md.
    ///   - timeout: the beat fails after this time; the next one follows anyway.
    /// - Throws: `conflict` or `notFound` when the server has lost this registration: register again.
    public func beat(peerId: String, registration: Int, through command: Int? = nil, timeout: Duration = .seconds(10)) async throws {
        var call = try HTTPCall.post("peers", peerId, "heartbeat", json: API.Beat(registration: registration, through: command))
        call.timeout = TimeAmount(timeout)
        call.retries = 1
        try await caller.send(call)
    }

    /// Leaves the pool.
    public func leave(peerId: String, registration: Int, timeout: Duration = .seconds(3)) async throws {
        var call = HTTPCall.delete("peers", peerId, query: [("registration", "\(registration)")])
        call.timeout = TimeAmount(timeout)
        try await caller.send(call)
    }
}

extension HTTPClient {
    /// The client Cohort works with: no redirects (a token must not follow one), refused connections said at once, and an answer or
    /// stream on which nothing comes for `silence` counts as broken. The server's streams ping every 15 s.
    /// - Parameter authorities: trusted beside those that the machine trusts.
    public static func cohort(
        eventLoopGroup: any EventLoopGroup = HTTPClient.defaultEventLoopGroup, silence: Duration = .seconds(40),
        authorities: [NIOSSLCertificate] = []
    ) -> HTTPClient {
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow, timeout: .init(connect: .seconds(10), read: TimeAmount(silence)))
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.httpVersion = .http1Only
        // Spans are made where the work is known: not for every poll and beat.
        configuration.tracing.tracer = nil
        if !authorities.isEmpty {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.additionalTrustRoots = [.certificates(authorities)]
            configuration.tlsConfiguration = tls
        }
        return HTTPClient(eventLoopGroup: eventLoopGroup, configuration: configuration)
    }
}
