import CohortCoordinator
import CohortCore
import CohortServer
import CohortStrategies
import CohortSystem
import Logging
import ServiceLifecycle
import UnixSignals

/// Settings → parts → one service group.
struct ServerAssembly {
    private let configuration: ServerConfiguration
    private let coordination: CoordinatorConfiguration
    private let folder: DataFolder
    private let documents: any Documents
    private let objects: any ObjectStore
    private let broker: any CoordinatorTransport & PeerGateway
    private let logger: Logger

    /// Flags are nil where they were not given. The data folder is this process's from here on.
    /// - Throws: ``CohortError`` for a setting that cannot be, or a folder that another server has.
    init(settings: Settings, host: String?, port: Int?, dataDirectory: String?, logger: Logger) async throws {
        let path = settings.text("data_dir", flag: dataDirectory, default: "\(StandardFolder.data())/server")
        let deadAfter = try settings.seconds("dead_after", in: 0.5...86_400, default: 30)
        let secret = settings.text("jwt_secret")
        if let secret, secret.utf8.count < 32 {
            throw CohortError(.invalid, "COHORT_JWT_SECRET has \(secret.utf8.count) bytes; it must have at least 32")
        }
        configuration = ServerConfiguration(
            host: settings.text("host", flag: host, default: "127.0.0.1"),
            port: try settings.whole("port", flag: port, in: 0...65_535, default: 8080), dataDirectory: path,
            uploadLimit: try settings.bytes("upload_limit", default: 1 << 30),
            tokenLifetime: try settings.whole("token_lifetime", in: 60...31_536_000, default: 604_800),
            heartbeatInterval: try settings.seconds("heartbeat_interval", in: 0.05...3_600, default: 5),
            suspectAfter: try settings.seconds("suspect_after", in: 0.1...86_400, default: 15), deadAfter: deadAfter,
            strategies: StrategyCatalogue.names, jwtSecret: secret)
        guard configuration.heartbeatInterval < deadAfter else {
            throw CohortError(
                .invalid,
                "COHORT_HEARTBEAT_INTERVAL is \(configuration.heartbeatInterval), COHORT_DEAD_AFTER \(deadAfter): a peer would be given up between two beats"
            )
        }
        let rules = SessionMachine.Rules(
            enableWait: deadAfter, peerWait: try settings.seconds("peer_wait", in: 0...604_800, default: 60),
            roundGrace: try settings.seconds("round_grace", in: 0.1...86_400, default: 5),
            progressWait: try settings.seconds("progress_wait", in: 1...604_800, default: 60))
        let lease = try settings.seconds("lease_seconds", in: 1...3_600, default: 15)
        let documentsChoice = try DocumentsChoice(url: settings.text("database_url"), dataDirectory: path)
        let quorum = settings.text("broker_quorum", default: "no")
        guard ["no", "yes"].contains(quorum) else {
            throw CohortError(.invalid, "COHORT_BROKER_QUORUM is '\(quorum.prefix(40))'; it must be yes or no")
        }
        let brokerChoice = try BrokerChoice(url: settings.text("broker_url"))
        let objectsChoice = try ObjectsChoice(url: settings.text("objects_url"), dataDirectory: path)

        folder = try DataFolder(path: path, of: "server")
        documents = try await documentsChoice.open()
        objects = try objectsChoice.open(folder, logger: logger)
        let messageFolder = folder
        broker = try brokerChoice.open(
            secret: try secret.map { [UInt8]($0.utf8) } ?? messageFolder.secret("messages.key"), isQuorum: quorum == "yes", logger: logger)
        coordination = CoordinatorConfiguration(
            owner: try folder.identity(), leaseSeconds: lease, rules: rules, scratchFolder: "\(path)/scratch")
        self.logger = logger
    }

    /// Serves until SIGTERM or SIGINT. Started first: the coordinator; stopped first: the server.
    func run(onListening: @escaping @Sendable (_ host: String, _ port: Int) -> Void) async throws {
        raiseDescriptorLimit()
        do {
            // What is wrong with a setting is said at the start, not by the first session.
            try await documents.ready()
            try await objects.ready()
            try await serve(onListening)
        } catch {
            await close()  // The first error is the one to tell.
            throw error
        }
        await close()
    }

    private func close() async {
        do {
            try await objects.close()
            try await documents.close()
        } catch {
            logger.warning("closing what was open: \(error)")
        }
    }

    private func serve(_ onListening: @escaping @Sendable (_ host: String, _ port: Int) -> Void) async throws {
        let feed = LocalSessionFeed()
        let coordinator = try Coordinator(
            documents: documents, objects: objects, transport: broker, feed: feed, configuration: coordination, logger: logger)
        let server = try makeServer(
            configuration: configuration,
            parts: ServerParts(
                documents: documents, objects: objects, transport: broker, gateway: broker, feed: feed, runner: coordinator, logger: logger),
            onListening: onListening)
        var group = ServiceGroupConfiguration(
            services: [.init(service: TransportService(transport: broker)), .init(service: coordinator), .init(service: server)],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        group.maximumGracefulShutdownDuration = .seconds(10)
        group.maximumCancellationDuration = .seconds(5)
        try await ServiceGroup(configuration: group).run()
    }
}

/// A transport's connection, for as long as those that use it run.
struct TransportService: Service {
    let transport: any CoordinatorTransport

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await transport.run() }
    }
}
