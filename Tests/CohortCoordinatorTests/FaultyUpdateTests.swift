import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
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

/// One of six peers multiplies a part of each of its updates: the model is as good as without it, whatever the strategy, the optimizer's
/// memory and the codec are. The peers train for real; the coordinator is the real one.
@Suite struct FaultyUpdateTests {
    /// What becomes of each number of the part.
    enum Fault: String, CaseIterable, CustomTestStringConvertible {
        case timesMillion, negated, zeroed, random

        var testDescription: String { rawValue }

        func apply(to values: inout ArraySlice<Float>, _ generator: inout SeededGenerator) {
            let largest = values.map(abs).max() ?? 0
            for index in values.indices {
                switch self {
                case .timesMillion: values[index] *= 1e6
                case .negated: values[index] *= -1
                case .zeroed: values[index] = 0
                case .random: values[index] = (generator.nextFloat() * 20 - 10) * largest
                }
            }
        }
    }

    @Test(arguments: StrategyCatalogue.builtIn.names, [OptimizerMemory.average, .keep])
    func `a faulty peer of six does no harm`(strategy: String, memory: OptimizerMemory) async throws {
        let kind = try StrategyCatalogue.builtIn.named(strategy)
        // Those that choose the memory themselves run once.
        let choosesMemory = kind.trainsOwnModels || kind.optimizer != nil || kind.optimizerMemory != nil
        guard !choosesMemory || memory == .average else { return }
        let parts = kind.recipe(SessionSettings()).controlVariates ? 2 : choosesMemory ? 1 : 3
        for codec in kind.trainsOwnModels ? [UpdateCompression.none] : [.none, .int8] {
            let control = try await Self.accuracy(strategy, memory: memory, codec: codec, fault: nil)
            #expect(control > 0.9, "\(codec): the control reaches \(control)")
            // The weights, and each stream that the updates have.
            for part in 0..<parts {
                for fault in Fault.allCases {
                    let found = try await Self.accuracy(strategy, memory: memory, codec: codec, fault: (part, fault))
                    #expect(found > control - 0.07, "\(codec), part \(part) \(fault): \(found), the control reaches \(control)")
                }
            }
        }
    }

    /// The accuracy on the held-out rows, as the coordinator measures it.
    private static func accuracy(
        _ strategy: String, memory: OptimizerMemory, codec: UpdateCompression, fault: (part: Int, fault: Fault)?
    ) async throws -> Double {
        let kind = try StrategyCatalogue.builtIn.named(strategy)
        var settings = SessionSettings(
            peers: 6, strategy: strategy, rounds: kind.outerOptimizer(SessionSettings()) == nil ? 9 : 20, epochs: 2, batchSize: 8,
            hidden: [4], target: "y", seed: 3)
        settings.lr = 0.05
        if let optimizer = kind.optimizer {
            settings.optimizer = optimizer
            settings.lr = 0.2
        } else if kind.optimizerMemory == nil {
            settings.optimizerState = memory
        }
        if codec != .none, !kind.trainsOwnModels { settings.updateCompression = codec }
        return try await TrainingWorld(settings).run(fault)
    }
}

/// A coordinator over parts in memory, and peers that train.
private struct TrainingWorld {
    let settings: SessionSettings

    init(_ settings: SessionSettings) { self.settings = settings }

    /// Two classes that a line divides.
    static let csv =
        "a,b,y\n"
        + (0..<240).map { row in
            var generator = SeededGenerator(seed: UInt64(row))
            let (a, b) = (generator.nextFloat(), generator.nextFloat())
            return "\(a),\(b),\(a + b > 1 ? "above" : "below")\n"
        }.joined()

    func run(_ fault: (part: Int, fault: FaultyUpdateTests.Fault)?) async throws -> Double {
        let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-faulty-\(newIdentifier())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let (documents, objects, broker) = (MemoryDocuments(), MemoryObjects(), MemoryBroker())
        let time = FastTime(factor: 500)
        let coordinator = try Coordinator(
            documents: documents, objects: objects, transport: broker, feed: NoFeed(),
            configuration: CoordinatorConfiguration(
                owner: "coordinator", leaseSeconds: 3_000,
                rules: .init(enableWait: 1e9, peerWait: 1e9, roundGrace: 1e9, progressWait: 1e9), startSeconds: 60,
                scratchFolder: "\(folder)/scratch"),
            time: time, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let names = (0..<settings.peers).map { "peer-\($0)" }
        for name in names {
            _ = try await documents.register(
                Peer(
                    id: name, name: name, ownerId: "owner", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1_000, platform: "", version: ""),
                    registeredAt: Date(), lastSeen: Date()))
        }
        let csvPath = "\(folder)/data.csv"
        try Data(Self.csv.utf8).write(to: URL(filePath: csvPath))
        return try await withThrowingTaskGroup(of: Double?.self) { group in
            group.addTask {
                try await coordinator.run()
                return nil
            }
            group.addTask {
                try await broker.run()
                return nil
            }
            for name in names {
                group.addTask { [csvPath, folder] in
                    try await TrainingPeer(
                        id: name, broker: broker, objects: objects, csvPath: csvPath, cache: "\(folder)/\(name).table",
                        fault: name == names.last ? fault : nil
                    ).run()
                    return nil
                }
            }
            group.addTask { [settings] in
                let upload = try await objects.put([UInt8](Self.csv.utf8), key: Session.uploadKey(at: time.date))
                let session = try await SessionStart(documents: documents, time: time).start(
                    settings, ownerId: "owner", upload: upload, filename: "f.csv")
                coordinator.wake(sessionId: session.id)
                try await eventually("the session has ended") {
                    try await documents.unfinishedSessions().isEmpty
                }
                let ended = try #require(try await documents.session(id: session.id))
                #expect(ended.status == .completed, "\(ended.error ?? "")")
                return ended.results?.metrics.accuracy ?? .nan
            }
            // The coordinator, the broker and the peers never end.
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            return .nan
        }
    }
}

private struct NoFeed: SessionFeed {
    func poolChanged() async {}
    func poolChanges() async -> AsyncStream<Void> { AsyncStream { $0.finish() } }
    func publish(_ notice: SessionNotice) async {}
    func subscribe(sessionId: String) async -> AsyncStream<SessionNotice> { AsyncStream { nil } }
}

/// Trains as the protocol asks, with the native engine, and spoils a part of its updates. On a separate thread: other tests' threads do not compute.
private actor TrainingPeer {
    private static let executor = Result { try ThreadExecutor() }

    private let id: String
    private let broker: MemoryBroker
    private let objects: MemoryObjects
    private let csvPath: String
    private let cache: String
    private let fault: (part: Int, fault: FaultyUpdateTests.Fault)?
    private let engine = NativeEngine(threads: 1)
    private var table: FeatureTable?
    private var model: (any TrainableModel)?
    /// SCAFFOLD's variate of this peer.
    private var variate: [Float]?
    private var rest: [Float] = []
    private var generator = SeededGenerator(seed: 5)

    private let executor: ThreadExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(
        id: String, broker: MemoryBroker, objects: MemoryObjects, csvPath: String, cache: String,
        fault: (part: Int, fault: FaultyUpdateTests.Fault)?
    ) throws {
        executor = try Self.executor.get()
        self.id = id
        self.broker = broker
        self.objects = objects
        self.csvPath = csvPath
        self.cache = cache
        self.fault = fault
    }

    func run() async throws {
        for try await queued in try await broker.commands(of: id) {
            let command = try CohortJSON.decode(Command.self, from: queued.body)
            try await broker.acknowledge(peerId: id, through: queued.id)
            switch command {
            case .enable(let command):
                try await send(
                    .enabled(EnabledEvent(sessionId: command.sessionId, peerId: id, generation: command.generation, capabilities: nil)))
            case .train(let command): try await send(.done(try await work(command)))
            case .refused, .stop: break
            }
        }
    }

    private func object(_ link: String) async throws -> [UInt8] { try await objects.get(String(link.dropFirst("memory:".count))) }

    private func opened(_ command: TrainCommand) async throws -> FeatureTable {
        if let table { return table }
        let stored = try await StoredTable(sessionId: command.work.sessionId, in: objects)
        let manifest = stored.manifest
        let local = try LocalTable(
            manifest, sha256: command.table.tableSha256, dictionary: try manifest.floats(ofDictionary: try await stored.dictionary()),
            path: cache)
        try local.add(try await stored.records(0..<manifest.parts.rows), at: RowRange(start: 0, end: manifest.parts.rows))
        let opened = local.table
        table = opened
        return opened
    }

    private func work(_ command: TrainCommand) async throws -> DoneEvent {
        let table = try await opened(command)
        let (layout, updateLayout) = (command.layout, command.updateLayout)
        var values = initialParameters(command.start.model, seed: command.start.modelSeed)
        if let link = command.start.weightsUrl { values = try Weights.decode(try await object(link), layout) }
        let start = layout.parameters(of: values)
        let model = try self.model ?? engine.makeModel(command.start.model)
        self.model = model
        let keeps = command.plan.optimizerState == .keep && command.work.round > 0
        try model.load(parameters: start, keepsOptimizer: keeps)
        let own = keeps && !layout.streams.isEmpty ? try model.optimizerState() : nil
        if let state = layout.optimizerState(of: values, command.options.optimizer, steps: command.start.optimizerSteps ?? 0, own: own) {
            try model.load(optimizerState: state)
        }
        let hasVariate = updateLayout.streams == [WeightsLayout.controlVariate]
        let ofAll = layout.controlVariate(of: values) ?? [Float](repeating: 0, count: start.count)
        let mine = variate ?? ofAll
        if hasVariate { try model.load(correction: zip(ofAll, mine).map { $0 - $1 }) }
        var results = DoneResults(loss: nil, accuracy: nil, samples: 0, epochs: command.plan.epochs, seconds: 0.01)
        func measured() throws -> Counts {
            let rows = table.validationRows[(command.plan.validationRows?.start ?? 0)..<(command.plan.validationRows?.end ?? 0)]
            return try model.evaluate(on: table, rows: rows) { true }
        }
        if command.start.weightsUrl != nil, command.plan.validationRows != nil { results.evaluation = try measured() }
        var rates = 0.0
        if command.plan.epochs > 0 {
            let rows = try EpochOrder.rows(at: command.plan.rows, in: table)
            for _ in 0..<command.plan.epochs {
                let counts = try model.train(
                    on: table, rows: rows,
                    options: TrainingOptions(
                        optimizer: command.options.optimizer, batchSize: command.options.batchSize,
                        learningRate: command.options.learningRate)
                ) { true }
                results.samples += counts.samples
                results.loss = counts.loss
                rates += Double((rows.count + command.options.batchSize - 1) / command.options.batchSize) * command.options.learningRate
            }
        }
        if command.plan.evaluateAfter { results.ownEvaluation = try measured() }
        func done(_ update: ObjectReference?, _ data: Data?) -> DoneEvent {
            DoneEvent(
                sessionId: command.work.sessionId, peerId: id, generation: command.work.generation, round: command.work.round,
                attempt: command.work.attempt,
                results: results, update: update, updateData: data)
        }
        guard let key = command.update?.key else { return done(nil, nil) }
        let state = updateLayout.streams.isEmpty || hasVariate ? nil : try model.optimizerState()
        results.optimizerSteps = state?.steps
        var sent = try model.parameters()
        if hasVariate {
            let next = start.indices.map { index in
                rates > 0 ? Float(Double(start[index] - sent[index]) / rates) - ofAll[index] + mine[index] : mine[index]
            }
            variate = next
            sent += next
        } else {
            sent = updateLayout.values(sent, state)
        }
        if let fault {
            let part = (fault.part * start.count)..<((fault.part + 1) * start.count)
            if part.upperBound <= sent.count { fault.fault.apply(to: &sent[part], &generator) }
        }
        let bytes =
            if let compression = command.update?.compression, compression != .none {
                try UpdateFile.encode(updateLayout, values: sent, start: start, compression: compression, rest: &rest)
            } else {
                try Weights.encode(updateLayout, sent)
            }
        let update = ObjectReference(key: key, sha256: SHA256.hash(data: bytes).map { hex($0) }.joined(), bytes: bytes.count)
        return done(update, Data(bytes))
    }

    private func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

    private func send(_ event: PeerEvent) async throws {
        while true {
            do {
                return try await broker.publish([CohortJSON.encode(event)], from: id, to: .events(sessionId: event.sessionId))
            } catch let error as CohortError where error.code == .unavailable {
                try await Task.sleep(for: .milliseconds(1))
            } catch is CohortError {
                return
            }
        }
    }
}
