import CohortCore
import CohortSystem
import FoundationEssentials
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import Logging
import NIOCore
public import ServiceLifecycle

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The HTTP server and the peers' presence, as one service.
public struct CohortServer: Service {
    let configuration: ServerConfiguration
    let parts: ServerParts
    let onListening: @Sendable (_ host: String, _ port: Int) -> Void

    /// - Parameter onListening: called once, when requests are accepted, with the address that is bound.
    public init(
        configuration: ServerConfiguration, parts: ServerParts, onListening: @escaping @Sendable (_ host: String, _ port: Int) -> Void
    ) {
        self.configuration = configuration
        self.parts = parts
        self.onListening = onListening
    }

    /// Runs until it is shut down.
    /// - Throws: ``CohortError`` when the data folder's files or the address cannot be used.
    public func run() async throws {
        let metrics = ServerMetrics()
        let presence = PresenceMonitor(
            documents: parts.documents, transport: parts.transport, runner: parts.runner, feed: parts.feed, configuration: configuration,
            time: parts.time, logger: parts.logger)
        TemporaryFiles.removeAll(in: configuration.dataDirectory, parts.logger)
        let broadcast = SessionBroadcast(feed: parts.feed, time: parts.time)
        let router = try await router(metrics: metrics, presence: presence, broadcast: broadcast)
        let limits = configuration.limits
        let plain = HTTPServerBuilder.http1(configuration: .init(additionalChannelHandlers: [ConnectionSetup(limits)]))
        let certificates = try configuration.tls.map { try ServerCertificate($0, logger: parts.logger) }
        let application = Application(
            responder: BasePathResponder(basePath: configuration.basePath, next: router.buildResponder()),
            server: try certificates.map { try .tls(plain, tlsConfiguration: $0.configuration) } ?? plain,
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.host, port: configuration.port), serverName: "cohort", backlog: 1_024),
            onServerRunning: { channel in
                let address = channel.localAddress
                onListening(address?.ipAddress ?? configuration.host, address?.port ?? configuration.port)
            }, logger: parts.logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await presence.run() }
            group.addTask { try await broadcast.run() }
            if let certificates { group.addTask { try await certificates.run() } }
            group.addTask {
                do {
                    // The signals are the service group's.
                    try await application.run()
                } catch let error as SocketAddressError.UnknownHost {
                    throw CohortError(
                        .invalid,
                        "cannot listen on '\(configuration.host.printable(max: 100))', which is not an address of this machine: --host must be one, or 0.0.0.0 for all (\(error))"
                    )
                } catch let error as IOError {
                    throw CohortError(
                        .conflict,
                        "cannot listen on \(configuration.host):\(configuration.port): \(Self.reason(error)). --port 0 takes a free port"
                    )
                }
            }
            // All end at a graceful shutdown; the first that fails ends the others.
            while try await group.next() != nil {}
        }
    }

    private static func reason(_ error: IOError) -> String {
        switch error.errnoCode {
        case EADDRINUSE: "another program uses this port"
        case EACCES: "this needs more rights: ports below 1024 are the system's"
        case EADDRNOTAVAIL: "this is not an address of this machine"
        default: String(cString: strerror(error.errnoCode))
        }
    }

    private func router(
        metrics: ServerMetrics, presence: PresenceMonitor, broadcast: SessionBroadcast
    ) async throws -> Router<Context> {
        let uploads = UploadReceiver(objects: parts.objects, limit: configuration.uploadLimit, time: parts.time, logger: parts.logger)
        let key =
            if let secret = configuration.jwtSecret { [UInt8](secret.utf8) } else {
                try KeyFile.key(at: "\(configuration.dataDirectory)/jwt.key", consequence: "all users must then sign in again")
            }
        let tokens = try await Tokens(key: key)
        let isTLS = configuration.tls != nil
        let web = WebSession(key: key, isSecure: isTLS || configuration.join.isBehindProxy, basePath: configuration.basePath)
        let authenticator = Authenticator(
            tokens: tokens, documents: parts.documents, time: parts.time, web: web,
            requests: RateLimiter(perMinute: configuration.requestLimit.perMinute, burst: configuration.requestLimit.burst))
        let modules = ModuleStore(objects: parts.objects)
        let models = ModelShelf(objects: parts.objects)
        let accounts = AuthRoutes(
            documents: parts.documents, tokens: tokens, authenticator: authenticator,
            passwords: try Passwords(cost: configuration.bcryptCost),
            limiter: SignInLimiter(first: configuration.signInDelay), signUps: RateLimiter(perMinute: 60, burst: 120),
            clients: ClientAddress(trustedProxies: configuration.trustedProxies), signUpRule: configuration.signUp,
            deletion: AccountDeletion(parts: parts, modules: modules), tokenLifetime: configuration.tokenLifetime, time: parts.time
        )
        var routes = accounts.routes
        routes +=
            PeerRoutes(
                documents: parts.documents, gateway: parts.gateway, presence: presence, configuration: configuration, metrics: metrics,
                authenticator: authenticator, time: parts.time
            ).routes
        routes += TableRoutes(documents: parts.documents, objects: parts.objects, presence: presence, time: parts.time).routes
        routes += ModuleRoutes(shelf: modules, limit: configuration.uploadLimit, folder: configuration.dataDirectory).routes
        routes +=
            SessionRoutes(
                parts: parts, presence: presence, configuration: configuration,
                uploads: uploads,
                models: models, modules: modules, metrics: metrics,
                filePredictions: FilePredictions(objects: parts.objects, folder: configuration.dataDirectory),
                broadcast: broadcast
            ).routes
        if let objects = parts.servedObjects {
            routes += ObjectRoutes(objects: objects, limit: configuration.objectLimit, time: parts.time).routes
        }
        routes += HealthRoutes(parts: parts, metrics: metrics).routes
        let pages = try WebPages(web: web, authenticator: authenticator, documents: parts.documents)
        routes += pages.routes + SignInPage(pages: pages, accounts: accounts).routes
        routes += DashboardPage(pages: pages, join: configuration.join, isTLS: isTLS).routes
        routes +=
            NewSessionPage(
                pages: pages, strategies: configuration.strategies, folder: configuration.dataDirectory,
                uploadLimit: configuration.uploadLimit
            ).routes
        routes +=
            SessionPage(
                pages: pages, documents: parts.documents, strategies: configuration.strategies, objects: parts.objects,
                folder: configuration.dataDirectory
            ).routes + SharedPage(pages: pages, parts: parts, models: models, strategies: configuration.strategies).routes
            + AccountPage(pages: pages).routes + SessionsPage(pages: pages).routes + ModelsPage(pages: pages).routes + [
                DocsPage(pages: pages).route
            ]
        routes += JoinRoutes(offer: configuration.join, isTLS: isTLS, basePath: configuration.basePath).routes
        routes.append(try OpenAPIRoute(describing: routes).route)

        let router = Router(context: Context.self)
        router.add(middleware: RequestMiddleware(metrics: metrics, sendsHSTS: configuration.sendsHSTS))
        router.add(middleware: CompressionMiddleware())
        router.add(middleware: ExpectMiddleware())
        if let origin = configuration.corsOrigin {
            router.add(
                middleware: CORSMiddleware(
                    allowOrigin: origin == "*" ? .all : CORSMiddleware<Context>.AllowOriginExtended.custom(origin),
                    allowHeaders: [.accept, .authorization, .contentType, .range, .ifNoneMatch],
                    allowMethods: [.get, .head, .post, .patch, .delete], exposedHeaders: ["etag", "content-range", "retry-after"],
                    maxAge: .seconds(600)))
        }
        router.add(middleware: ProblemMiddleware(routes: routes, pages: pages))
        for route in routes {
            for method in route.methods {
                router.on(RouterPath(route.path), method: method) { request, context in
                    try route.checkQuery(request)
                    return try await route.respond(request, context, authenticator)
                }
            }
        }
        return router
    }
}
