import CohortCoordinator
import CohortCore
import CohortServer
import CohortSession
import CohortSystem
import CohortWire
import Logging
import ServiceLifecycle
import UnixSignals

/// The parts that servers and coordinators share, made from the settings.
struct CommonParts {
    let documents: any Documents
    let objects: any ObjectStore
    let servedObjects: (any ServedObjectStore)?
    let broker: any CoordinatorTransport & PeerGateway
    private let signals: (any SignalBus)?
    let coordination: CoordinatorConfiguration
    /// Other processes can use all three stores as well.
    let isShared: Bool
    let folder: LockedFolder
    let logger: Logger
    private let tracing: (any Service)?

    /// The data folder at `path` is this process's from here on.
    /// - Parameter isApart: whether it must be able to run beside others.
    /// - Throws: ``CohortError`` for an invalid setting, or a folder that another process has.
    init(settings: Settings, path: String, of what: String, isApart: Bool = false, logger: Logger) async throws {
        let secret = settings.text("jwt_secret")
        if let secret, secret.utf8.count < 32 {
            throw CohortError(.invalid, "COHORT_JWT_SECRET has \(secret.utf8.count) bytes; it must have at least 32")
        }
        let rules = SessionMachine.Rules(
            enableWait: try settings.deadAfter, peerWait: try settings.seconds("peer_wait", in: 0...604_800, default: 60),
            roundGrace: try settings.seconds("round_grace", in: 0.1...86_400, default: 5),
            progressWait: try settings.seconds("progress_wait", in: 1...604_800, default: 60),
            maxRunTime: try settings.seconds("longest_run", in: 60...31_536_000, default: 86_400))
        let lease = try settings.seconds("lease_seconds", in: 1...3_600, default: 15)
        let documentsChoice = try DocumentsChoice(url: settings.text("database_url"), dataDirectory: path)
        let isQuorum = try settings.yesOrNo("broker_quorum", default: false)
        let brokerChoice = try BrokerChoice(
            url: settings.text("broker_url"), peerURL: settings.text("broker_peer_url"), adminURL: settings.text("broker_admin_url"))
        let objectsChoice = try ObjectsChoice(url: settings.text("objects_url"), dataDirectory: path)
        isShared = documentsChoice.isShared && brokerChoice.isShared && objectsChoice.isShared
        if isApart {
            guard isShared else {
                throw CohortError(
                    .invalid,
                    "servers and coordinators apart from each other need a shared COHORT_DATABASE_URL, COHORT_BROKER_URL and COHORT_OBJECTS_URL: an embedded one belongs to one `cohort serve`, which coordinates by itself"
                )
            }
            guard secret != nil else {
                throw CohortError(
                    .invalid, "COHORT_JWT_SECRET is missing: servers and coordinators sign what they tell each other, with the same secret")
            }
        }
        let folder = try LockedFolder(path: path, role: what)
        documents = try await documentsChoice.open()
        (objects, servedObjects) = try objectsChoice.open(folder, logger: logger)
        let opened = try brokerChoice.open(
            secret: try secret.map { [UInt8]($0.utf8) } ?? folder.secret("messages.key"), isQuorum: isQuorum, logger: logger)
        broker = opened.transport
        signals = opened.signals
        coordination = CoordinatorConfiguration(
            owner: try folder.identity(), leaseSeconds: lease, rules: rules, poolShare: try settings.poolShare,
            modelMemory: try settings.bytes("model_memory", default: CoordinatorConfiguration.standardModelMemory),
            strategies: CohortCommand.strategies, scratchFolder: "\(path)/scratch")
        self.folder = folder
        self.logger = logger
        tracing = try settings.makeTracing(service: "cohort-\(what)", instance: coordination.owner, logger: logger)
    }

    /// nil where no other process could hear.
    func makeSignals() -> SharedSignals? {
        isShared ? signals.map { SharedSignals(bus: $0) } : nil
    }

    func makeCoordinator(feed: any SessionFeed) throws -> Coordinator {
        try Coordinator(
            documents: documents, objects: objects, transport: broker, feed: feed, configuration: coordination, logger: logger)
    }

    /// Runs until SIGTERM or SIGINT; the services stop in the opposite order, and then the stores are closed.
    func run(_ services: [any Service]) async throws {
        do {
            // A wrong setting is reported at the start, not by the first session.
            try await documents.ready()
            try await objects.ready()
            var group = ServiceGroupConfiguration(
                services: ((tracing.map { [$0] } ?? []) + [TransportService(transport: broker)] + services).map { .init(service: $0) },
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
            group.maximumGracefulShutdownDuration = .seconds(10)
            group.maximumCancellationDuration = .seconds(5)
            try await ServiceGroup(configuration: group).run()
        } catch {
            await close()  // The first error is the one to tell.
            throw error
        }
        await close()
    }

    private func close() async {
        // Close both, even when the first fails.
        do { try await objects.close() } catch { logger.warning("closing the object store: \(error)") }
        do { try await documents.close() } catch { logger.warning("closing the documents: \(error)") }
    }
}

extension Settings {
    /// The share of other users' machines that one account may hold at a time.
    var poolShare: Double {
        get throws {
            guard let text = text("pool_share") else { return 0.5 }
            guard let share = Double(text), (0...1).contains(share) else {
                throw CohortError(.invalid, "COHORT_POOL_SHARE is '\(text.printable(max: 40))'; it must be a number from 0 to 1")
            }
            return share
        }
    }

    /// Seconds of a peer's silence after which servers mark it OFFLINE and coordinators no longer wait for it.
    var deadAfter: Double { get throws { try seconds("dead_after", in: 0.5...86_400, default: 30) } }
}

/// A transport's connection, for as long as those that use it run.
struct TransportService: Service {
    let transport: any CoordinatorTransport

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await transport.run() }
    }
}
