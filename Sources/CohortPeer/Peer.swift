public import AsyncHTTPClient
import CohortAPI
import CohortClient
public import CohortCore
import CohortSystem
import CohortWire
public import Logging
public import ServiceLifecycle

/// A machine that trains: registers, beats, obeys its commands, and says what came of them. Runs until it is shut down.
public actor Peer: Service {
    let configuration: PeerConfiguration
    private let http: HTTPClient
    let logger: Logger
    let makeTransport: PeerTransportFactory
    private let makeEngine: @Sendable () throws -> any TrainingEngine
    let outbox: Outbox
    let cache: RowCache
    var ledger = CommandLedger()
    var control: RunControl?
    var capabilities: PeerCapabilities?
    var registered: API.Registered?
    /// Newest wins: one piece of work waits at most, beside the one that is being done.
    let work: AsyncStream<Work>
    let assign: AsyncStream<Work>.Continuation

    enum Work: Sendable {
        case train(TrainCommand, RunControl)
        case prepare(EnableCommand, RunControl)
        /// Release the data set and the model.
        case release
    }

    /// - Parameters:
    ///   - http: one for the process, see `HTTPClient`.
    ///   - transport: makes the wire of a registration.
    ///   - engine: makes the engine that trains; called once, on the training thread.
    /// - Throws: ``CohortError`` `invalid` for an empty name or token.
    public init(
        configuration: PeerConfiguration, http: HTTPClient, transport: @escaping PeerTransportFactory, logger: Logger,
        engine: @escaping @Sendable () throws -> any TrainingEngine
    ) throws {
        guard !configuration.name.isEmpty else { throw CohortError(.invalid, "the peer's name is empty") }
        guard !configuration.token.isEmpty else { throw CohortError(.invalid, "the join token is empty: get one with `cohort token`") }
        self.configuration = configuration
        self.http = http
        makeTransport = transport
        self.logger = logger
        makeEngine = engine
        outbox = Outbox(logger: logger)
        cache = RowCache(
            folder: PeerFolder.cachePath(in: configuration.dataDirectory), limit: configuration.cacheLimitBytes,
            keepsData: configuration.keepsData, logger: logger)
        (work, assign) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Returns after a graceful shutdown, having said goodbye.
    /// - Throws: ``CohortError`` `conflict` when another peer has the data folder; `unauthenticated` or `forbidden` when the server
    ///   refuses the token; `invalid` when the folder is damaged.
    public func run() async throws {
        let folder = try PeerFolder(path: configuration.dataDirectory)
        let record = try folder.loadRecord()
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let client = CohortClient(server: configuration.server, token: configuration.token, http: http, logger: logger)
        cache.removeLeftovers()
        let trainer = Trainer(
            executor: executor, makeEngine: makeEngine, objects: client.objects, cache: cache, roundsFolder: folder.roundsPath,
            maxLoad: configuration.maxLoad, allowsModules: configuration.allowsModules, checkPoint: configuration.checkPoint,
            report: configuration.report, logger: logger)
        do {
            try await cancelWhenGracefulShutdown { [self] in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await self.stayRegistered(with: client, folder: folder, record: record, trainer: trainer) }
                    group.addTask { await self.carryOut(with: trainer) }
                    defer { group.cancelAll() }
                    try await group.next()
                }
            }
        } catch is CancellationError {
            // Asked to stop.
        }
        await trainer.release()
        await endRegistration(client)
        // Its lock is held to the last.
        withExtendedLifetime(folder) {}
    }

    private func endRegistration(_ client: CohortClient) async {
        guard let registered, !Task.isCancelled else { return }
        do {
            try await client.authenticated(by: registered.credential).leave(
                peerId: registered.peerId, registration: registered.registration)
            configuration.report(.left)
            logger.notice("left the pool")
        } catch {
            logger.info("leaving without a goodbye, the server will notice the silence: \(error)")
        }
    }
}
