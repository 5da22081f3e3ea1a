import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials
import InMemory
import Logging
import ServiceLifecycle
import Synchronization
import TestSupport
import Testing

@testable import CohortCoordinator

/// A whole session in one process: real coordinator, in-memory parts, peers that answer at once. No sleep decides anything: time runs
/// fast, and waits for peers are longer than any test.
struct SessionWorld: Sendable {
    /// What the session stands on.
    struct Parts: Sendable {
        var documents: any Documents
        var objects: any ObjectStore
        /// One for each life of the server.
        var makeBroker: @Sendable () throws -> any CoordinatorTransport & PeerGateway
        /// The key that a link of the objects leads to.
        var key: @Sendable (String) -> String
        /// Ids of peers `a` and `b`.
        var peers: [String]
        /// How much faster than the clock time runs: no start of a session may seem to take a minute.
        var speed: Double

        static var inMemory: Parts {
            Parts(
                documents: MemoryDocuments(), objects: MemoryObjects(), makeBroker: { MemoryBroker() },
                key: { String($0.dropFirst("memory:".count)) }, peers: ["a", "b"], speed: 500)
        }
    }

    let parts: Parts
    var documents: any Documents { parts.documents }
    var objects: any ObjectStore { parts.objects }
    let time: FastTime
    let csv: String
    /// For copies of data sets.
    let scratch: String
    let mischief = Mischief()
    /// What peers heard and said last, for a session that does not end.
    let journal = Journal()

    static func settings(_ strategy: String) -> SessionSettings {
        SessionSettings(peers: 2, strategy: strategy, rounds: 2, epochs: 2, batchSize: 4, hidden: [2], target: "y", seed: 3)
    }

    init(csv: String, scratch: String, parts: Parts = .inMemory) async throws {
        self.csv = csv
        self.scratch = scratch
        self.parts = parts
        time = FastTime(factor: parts.speed)
        for (id, name) in zip(parts.peers, ["a", "b"]) {
            _ = try await documents.register(
                Peer(
                    id: id, name: name, ownerId: "owner", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1_000, platform: "", version: ""),
                    registeredAt: Date(), lastSeen: Date()))
        }
    }

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private var configuration: CoordinatorConfiguration {
        CoordinatorConfiguration(
            owner: "coordinator", leaseSeconds: 30,
            rules: .init(enableWait: 1e9, peerWait: 1e9, roundGrace: 1e9, progressWait: 1e9), startSeconds: 60,
            scratchFolder: scratch)
    }

    /// One life of a server: starts the session if it was not started, and coordinates until the session has ended or the plan's crash.
    /// - Returns: whether it lives to the end.
    func live(
        _ plan: FaultPlan, starting settings: SessionSettings?, until isOver: @escaping @Sendable () async throws -> Bool = { true }
    ) async throws -> Bool {
        let broker = try parts.makeBroker()
        let faultyDocuments = FaultyDocuments(documents, plan)
        let coordinator = try Coordinator(
            documents: faultyDocuments, objects: FaultyObjects(objects, plan), transport: FaultyTransport(broker, plan),
            feed: SilentFeed(), configuration: configuration, time: time, logger: Self.logger)
        return try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await coordinator.run()
                return true
            }
            group.addTask {
                try await broker.run()
                return true
            }
            for (id, name) in zip(parts.peers, ["a", "b"]) {
                group.addTask {
                    try await AnsweringPeer(
                        id: id, name: name, broker: broker, parts: parts, mischief: name == "b" ? mischief : nil, journal: journal
                    ).run()
                    return true
                }
            }
            group.addTask {
                for await _ in plan.died {}
                return false
            }
            group.addTask {
                if let settings {
                    // A failed start is an error to its caller: the user starts again.
                    for _ in 0..<3 {
                        let upload = try await objects.put([UInt8](csv.utf8), key: Session.uploadKey(at: time.date))
                        do {
                            let session = try await SessionStart(documents: faultyDocuments, time: time).start(
                                settings, ownerId: "owner", upload: upload, filename: "f.csv")
                            coordinator.wake(sessionId: session.id)
                            break
                        } catch is FaultPlan.Dead {
                            return false
                        } catch let error as CohortError where [.unavailable, .invalid, .conflict].contains(error.code) {
                            // Conflict: it took so long that a coordinator has ended it as one that died.
                            try await objects.delete(upload.key)
                            // Peers of a start that could not be taken back are free once a coordinator has swept.
                            try await eventually("no peer is locked by a failed start") {
                                try await documents.availablePeers().count == parts.peers.count
                            }
                        }
                    }
                }
                try await eventually("every session has ended") {
                    guard try await documents.unfinishedSessions().isEmpty else { return false }
                    return try await isOver()
                }
                return true
            }
            // `plan.died` never ends without a crash; the peers never end.
            defer { group.cancelAll() }
            guard let first = try await group.next() else { return true }
            return first
        }
    }
}

/// What peer b sends before each of its answers, and the refusals that it receives.
final class Mischief: @unchecked Sendable {
    /// Set before the session starts.
    var next: (@Sendable (DoneEvent) throws -> [UInt8]?)?
    let refusals = Mutex<[RefusedCommand]>([])
}

/// The newest lines.
final class Journal: Sendable {
    private let lines = Mutex<[String]>([])

    func add(_ line: String) {
        lines.withLock { lines in
            if lines.count >= 24 { lines.removeFirst() }
            lines.append(line)
        }
    }

    var text: String { lines.withLock { $0.joined(separator: ", ") } }
}

private struct SilentFeed: SessionFeed {
    func poolChanged() async {}
    func poolChanges() async -> AsyncStream<Void> { AsyncStream { $0.finish() } }
    func publish(_ notice: SessionNotice) async {}
    func subscribe(sessionId: String) async -> AsyncStream<SessionNotice> { AsyncStream { nil } }
}

/// Speaks the protocol: answers each TRAIN with the weights it was given, moved a little.
private struct AnsweringPeer {
    let id: String
    let name: String
    let broker: any CoordinatorTransport & PeerGateway
    let parts: SessionWorld.Parts
    let mischief: Mischief?
    let journal: Journal

    func run() async throws {
        for try await queued in try await broker.commands(of: id) {
            let command = try CohortJSON.decode(Command.self, from: queued.body)
            journal.add("\(name) hears \(command.words)")
            try await broker.acknowledge(peerId: id, through: queued.id)
            switch command {
            case .enable(let command):
                try await send(
                    .enabled(EnabledEvent(sessionId: command.sessionId, peerId: id, generation: command.generation, capabilities: nil)))
            case .train(let command):
                for epoch in 1...max(1, command.plan.epochs) where command.plan.epochs > 0 {
                    try await send(
                        .heartbeat(
                            HeartbeatEvent(
                                sessionId: command.work.sessionId, peerId: id, generation: command.work.generation,
                                round: command.work.round,
                                epoch: epoch, loss: 1, accuracy: 0.5, samplesPerSecond: 10, progress: nil)))
                }
                let done = try await done(command)
                if let body = try mischief?.next?(done) {
                    try await broker.publish([body], from: id, to: .events(sessionId: command.work.sessionId))
                }
                try await send(.done(done))
            case .refused(let command): mischief?.refusals.withLock { $0.append(command) }
            case .stop: break
            }
        }
    }

    private func done(_ command: TrainCommand) async throws -> DoneEvent {
        var results = DoneResults(
            loss: 1, accuracy: 0.5, samples: command.plan.rows.count * command.plan.epochs, epochs: command.plan.epochs, seconds: 0.01)
        let measured = command.plan.validationRows.map { Counts(samples: $0.count, lossSum: Double($0.count), correct: 0) }
        if command.start.weightsUrl != nil { results.evaluation = measured }
        if command.plan.evaluateAfter { results.ownEvaluation = measured }
        guard let key = command.update?.key else {
            return DoneEvent(
                sessionId: command.work.sessionId, peerId: id, generation: command.work.generation, round: command.work.round,
                attempt: command.work.attempt,
                results: results, update: nil)
        }
        let layout = command.updateLayout
        var parameters = layout.values(initialParameters(command.start.model, seed: command.start.modelSeed), nil)
        if let link = command.start.weightsUrl {
            let start = try Weights.decode(try await parts.objects.get(parts.key(link)), command.layout)
            parameters = layout == command.layout ? start : layout.values(command.layout.parameters(of: start), nil)
        }
        let bytes = try Weights.encode(layout, parameters.map { $0 + 0.001 })
        // One peer's come in the message, the other's as an object.
        let update = try await name == "a" ? MemoryObjects().put(bytes, key: key) : parts.objects.put(bytes, key: key)
        return DoneEvent(
            sessionId: command.work.sessionId, peerId: id, generation: command.work.generation, round: command.work.round,
            attempt: command.work.attempt,
            results: results, update: update, updateData: name == "a" ? Data(bytes) : nil)
    }

    /// Until it is taken, or refused for good.
    private func send(_ event: PeerEvent) async throws {
        while true {
            do {
                try await broker.publish([CohortJSON.encode(event)], from: id, to: .events(sessionId: event.sessionId))
                return journal.add("\(name) says \(event.words)")
            } catch let error as CohortError where error.code == .unavailable {
                try await Task.sleep(for: .milliseconds(1))
            } catch let error as CohortError {
                return journal.add("\(name) cannot say \(event.words): \(error)")
            }
        }
    }
}

extension Command {
    fileprivate var words: String {
        switch self {
        case .enable(let command): "ENABLE of generation \(command.generation)"
        case .train(let command): "TRAIN of round \(command.work.round), generation \(command.work.generation)"
        case .refused: "REFUSED"
        case .stop: "STOP"
        }
    }
}

extension PeerEvent {
    fileprivate var words: String { "\(self)".prefix { $0 != "(" } + " of generation \(generation)" }
}
