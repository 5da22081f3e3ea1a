import CohortCore
import FoundationEssentials
import Testing

@Suite struct Wire {
    private func text(_ value: some Encodable) throws -> String { String(decoding: try CohortJSON.encode(value), as: UTF8.self) }

    @Test func `a HEARTBEAT has the protocol's names`() throws {
        let event = PeerEvent.heartbeat(
            HeartbeatEvent(
                sessionId: "s", peerId: "p", generation: 2, round: 1, epoch: 3, loss: 0.5, accuracy: 0.75, samplesPerSecond: 10,
                progress: 0.5))
        #expect(
            try text(event)
                == #"{"accuracy":0.75,"epoch":3,"generation":2,"loss":0.5,"peer_id":"p","progress":0.5,"round":1,"samples_per_second":10,"session_id":"s","type":"HEARTBEAT"}"#
        )
    }

    @Test func `an ENABLE has the protocol's names`() throws {
        let command = Command.enable(EnableCommand(queue: QueueName.events(sessionId: "s").rawValue, sessionId: "s", generation: 1))
        #expect(try text(command) == #"{"generation":1,"queue":"coordinator.s.events","session_id":"s","type":"ENABLE"}"#)
    }

    @Test func `a TRAIN goes there and back`() throws {
        let schema = TableSchema(
            hasHeader: true, delimiter: ",",
            columns: [.init(name: "camelCase", kind: .numeric, mean: 1, std: 2), .init(name: "y", kind: .target)], target: "y",
            task: .classification, classes: ["a", "b"], validation: 0.2, splitSeed: 7, trainingRows: 8, validationRows: 2, droppedRows: 0)
        var train = TrainCommand(
            csvLink: "s3://b/t.csv", hyperparameters: Hyperparameters(batchSize: 4, epochs: 2, lr: 0.1), sessionId: "s", generation: 1,
            round: 0,
            csvUrl: "/objects/t.csv", csvSha256: "ab", csvBytes: 10,
            model: ModelSpec(inputs: 1, hidden: [4], outputs: 2, task: .classification),
            optimizer: OptimizerSpec(), seed: 1 << 52, modelSeed: 9, schema: schema,
            rows: RowAssignment(seed: 9, ranges: [RowRange(start: 0, end: 8)]))
        train.weightsUrl = "/objects/w"
        let bytes = try CohortJSON.encode(Command.train(train))
        #expect(try CohortJSON.decode(Command.self, from: bytes) == .train(train))
        let text = String(decoding: bytes, as: UTF8.self)
        for name in ["csv_link", "csv_url", "csv_sha256", "batch_size", "weights_url", "model_seed"] {
            #expect(text.contains("\"\(name)\":"), "\(name)")
        }
    }

    @Test func `unknown fields are ignored, unknown types are told apart from damage`() throws {
        let known = try CohortJSON.decode(PeerEvent.self, from: #"{"type":"ENABLED","session_id":"s","peer_id":"p","colour":"red"}"#.utf8)
        #expect(known == .enabled(EnabledEvent(sessionId: "s", peerId: "p", generation: nil, capabilities: nil)))
        #expect(throws: UnknownMessageType.self) { try CohortJSON.decode(PeerEvent.self, from: #"{"type":"DANCE"}"#.utf8) }
    }

    @Test(arguments: [
        ("{", "not valid JSON"), (#"{"type":"DONE","session_id":"s"}"#, "'peer_id' is missing"),
        (
            #"{"type":"HEARTBEAT","session_id":"s","peer_id":"p","generation":"two"}"#,
            "'generation' has the wrong type: a whole number was expected"
        ),
        (String(repeating: "[", count: 10_000), "JSON"),
    ]) func `bad JSON is a sentence that names the field`(text: String, sentence: String) {
        let error = #expect(throws: CohortError.self) { try CohortJSON.decode(PeerEvent.self, from: text.utf8) }
        #expect(error?.code == .invalid && error?.message.contains(sentence) == true, "\(error?.message ?? "")")
    }

    @Test func `a date that is read and written again stays what it is`() throws {
        for milliseconds in stride(from: 0, to: 10_000, by: 7) {
            let first = try CohortJSON.encode([Date(timeIntervalSince1970: 1_795_680_970 + Double(milliseconds) / 1000)])
            let text = String(decoding: first, as: UTF8.self)
            let digits = String(milliseconds % 1000)
            #expect(text.hasSuffix("." + String(repeating: "0", count: 3 - digits.count) + digits + "Z\"]"), "\(text)")
            #expect(try CohortJSON.encode(CohortJSON.decode([Date].self, from: first)) == first)
        }
    }

    @Test func `per-peer overrides keep the peers' names as they are`() throws {
        let settings = SessionSettings(perPeer: ["lena_mbp": .init(batchSize: 8), "lenaMBP": .init(lr: 0.1)])
        #expect(try CohortJSON.decode(SessionSettings.self, from: CohortJSON.encode(settings)) == settings)
    }
}

/// docs/messages: an example of each message, with every field that it can have.
@Suite struct MessageExamples {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/messages").standardized

    private func example(_ type: String) throws -> Data { try Data(contentsOf: Self.folder.appending(path: "\(type).json")) }

    @Test(arguments: ["ENABLE", "TRAIN", "TRAIN-module", "REFUSED", "STOP"]) func `a command's example is read and written without loss`(
        type: String
    )
        throws
    {
        let bytes = try example(type)
        let command = try CohortJSON.decode(Command.self, from: bytes)
        try expectSame(bytes, try CohortJSON.encode(command))
        switch command {
        case .enable(let message): expectWhole(message)
        case .train(let message): expectWhole(message, without: type == "TRAIN" ? ["moduleUrl", "moduleOwner"] : [])
        case .refused(let message): expectWhole(message)
        case .stop(let message): expectWhole(message)
        }
    }

    @Test(arguments: ["ENABLED", "READY", "PROGRESS", "HEARTBEAT", "DONE", "ERROR"])
    func `an event's example is read and written without loss`(type: String) throws {
        let bytes = try example(type)
        let event = try CohortJSON.decode(PeerEvent.self, from: bytes)
        try expectSame(bytes, try CohortJSON.encode(event))
        switch event {
        case .enabled(let message): expectWhole(message)
        case .ready(let message): expectWhole(message)
        case .progress(let message): expectWhole(message)
        case .heartbeat(let message): expectWhole(message)
        case .done(let message): expectWhole(message)
        case .error(let message): expectWhole(message)
        }
    }

    /// Nothing that can be in the message is left out of its example.
    /// - Parameter absent: what goes with other messages of the type.
    private func expectWhole(_ message: Any, without absent: Set<String> = []) {
        for child in Mirror(reflecting: message).children where !absent.contains(child.label ?? "") {
            let mirror = Mirror(reflecting: child.value)
            #expect(mirror.displayStyle != .optional || mirror.children.first != nil, "\(child.label ?? "") is not in the example")
        }
    }

    private func expectSame(_ example: Data, _ written: [UInt8]) throws {
        let (a, b) = (try JSONDecoder().decode(JSON.self, from: example), try JSONDecoder().decode(JSON.self, from: Data(written)))
        #expect(a == b)
    }

    private enum JSON: Decodable, Equatable {
        case object([String: JSON]), array([JSON]), text(String), number(Double), truth(Bool)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let value = try? container.decode(Bool.self) {
                self = .truth(value)
            } else if let value = try? container.decode(Double.self) {
                self = .number(value)
            } else if let value = try? container.decode(String.self) {
                self = .text(value)
            } else if let value = try? container.decode([JSON].self) {
                self = .array(value)
            } else {
                self = .object(try container.decode([String: JSON].self))
            }
        }
    }
}

@Suite struct Settings {
    @Test(arguments: [
        (SessionSettings(peers: 0), "peers is 0"), (SessionSettings(peers: 1_000_000), "peers is 1000000"),
        (SessionSettings(rounds: 0), "rounds is 0"), (SessionSettings(epochs: 0), "epochs is 0"),
        (SessionSettings(batchSize: 0), "batch_size is 0"), (SessionSettings(batchSize: -1), "batch_size is -1"),
        (SessionSettings(lr: .nan), "lr is nan"), (SessionSettings(lr: .infinity), "lr is inf"), (SessionSettings(lr: 0), "lr is 0"),
        (SessionSettings(hidden: [0]), "hidden is 0"), (SessionSettings(dropout: 1), "dropout is 1"),
        (SessionSettings(validation: 1), "validation is 1"), (SessionSettings(peers: 2, minPeers: 3), "min_peers is 3"),
        (SessionSettings(perPeer: ["a": .init(epochs: 0)]), "per_peer.a.epochs is 0"),
        (SessionSettings(optimizer: OptimizerSpec(name: .adam, momentum: 0.9)), "momentum is 0.9"),
        (SessionSettings(optimizer: OptimizerSpec(name: .sgd, nesterov: true)), "nesterov is true"),
        (SessionSettings(earlyStopping: 0), "early_stopping is 0"),
        (SessionSettings(classWeight: .byLabel(["a": 0])), "class_weight.a is 0"),
    ]) func `what cannot be is named, with what would be right`(settings: SessionSettings, sentence: String) {
        let error = #expect(throws: CohortError.self) { try settings.validated() }
        #expect(error?.message.contains(sentence) == true && error?.message.contains("must be") == true, "\(error?.message ?? "")")
    }

    @Test func `a peer's overrides count, by id before name`() {
        let settings = SessionSettings(epochs: 3, batchSize: 32, lr: 0.1, perPeer: ["id": .init(lr: 0.2), "name": .init(lr: 0.3)])
        #expect(settings.hyperparameters(peerId: "id", name: "name") == Hyperparameters(batchSize: 32, epochs: 3, lr: 0.2))
        #expect(settings.hyperparameters(peerId: "x", name: "name").lr == 0.3)
        #expect(settings.hyperparameters(peerId: "x", name: "y").lr == 0.1)
    }
}

@Suite struct WeightsOfClasses {
    private func schema(_ counts: [Int]?, task: LearningTask = .classification) -> TableSchema {
        TableSchema(
            hasHeader: true, delimiter: ",", columns: [], target: "y", task: task, classes: ["no", "snake_case", "camelCase"],
            validation: 0, splitSeed: 0, trainingRows: 12, validationRows: 0, droppedRows: 0, classCounts: counts)
    }

    @Test func `balanced weights make the classes count alike`() throws {
        let weights = try ClassWeight.balanced.weights(of: schema([8, 3, 1]))
        #expect(weights == [0.5, 12.0 / 9, 4])
        #expect(zip(weights, [8.0, 3, 1]).allSatisfy { abs($0 * $1 - 4) < 1e-12 })
    }

    @Test func `labels keep their case on the wire`() throws {
        let given = ClassWeight.byLabel(["snake_case": 2, "camelCase": 0.5])
        let settings = SessionSettings(classWeight: given)
        #expect(try CohortJSON.decode(SessionSettings.self, from: CohortJSON.encode(settings)) == settings)
        #expect(try ClassWeight.parse(#"{"snake_case": 2, "camelCase": 0.5}"#) == given)
        #expect(try given.weights(of: schema(nil)) == [1, 2, 0.5])
        #expect(try CohortJSON.decode(ClassWeight.self, from: CohortJSON.encode(ClassWeight.balanced)) == .balanced)
        #expect(try ClassWeight.parse("none") == nil)
    }

    @Test func `what cannot be weighed is said`() {
        for (weight, task, sentence) in [
            (ClassWeight.balanced, LearningTask.regression, "for classification"), (.byLabel(["maybe": 2]), .classification, "'maybe'"),
        ] {
            let error = #expect(throws: CohortError.self) { try weight.weights(of: schema([1, 1, 1], task: task)) }
            #expect(error?.message.contains(sentence) == true, "\(error?.message ?? "")")
        }
        #expect(throws: CohortError.self) { try ClassWeight.parse("balance") }
    }
}

@Suite struct Randomness {
    /// The first outputs of SplitMix64 seeded with 0, as published with its reference implementation.
    @Test func `SplitMix64 gives the published outputs`() {
        var generator = SeededGenerator(seed: 0)
        #expect((0..<3).map { _ in generator.next() } == [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f])
    }

    @Test func `rows are dealt from one permutation, each once`() throws {
        let rows = (0..<100).map { UInt32($0 * 3) }
        let first = try RowAssignment(seed: 5, ranges: [RowRange(start: 0, end: 40)]).rows(of: rows)
        let second = try RowAssignment(seed: 5, ranges: [RowRange(start: 40, end: 100)]).rows(of: rows)
        #expect(Set(first).union(second) == Set(rows) && first.count == 40)
        #expect(first != Array(rows.prefix(40)), "shuffled")
        #expect(throws: CohortError.self) { try RowAssignment(seed: 5, ranges: [RowRange(start: 90, end: 101)]).rows(of: rows) }
    }
}

@Suite struct Ledger {
    @Test func `counts passes over ranges, however they overlap`() {
        var ledger = RowLedger(rows: 10)
        ledger.add(RowRange(start: 0, end: 4), epochs: 2)
        ledger.add(RowRange(start: 2, end: 10), epochs: 1)
        #expect(ledger.use == RowUse(rows: 10, least: 1, most: 3, mean: 1.6))
        ledger.add(RowRange(start: 4, end: 10), epochs: 1)
        #expect(ledger.runs.map(\.end) == [2, 4, 10] && ledger.runs.map(\.count) == [2, 3, 2])
    }

    @Test func `stays small when every row is used alike`() {
        var ledger = RowLedger(rows: 1_000)
        for start in stride(from: 0, to: 1_000, by: 10) { ledger.add(RowRange(start: start, end: start + 10), epochs: 3) }
        #expect(ledger.runs.count == 1 && ledger.use.least == 3)
    }
}

@Suite struct Counting {
    @Test func `slices add up to the whole`() {
        let whole = Counts(samples: 3, lossSum: 6, correct: 2) + Counts(samples: 1, lossSum: 2, correct: 0)
        #expect(whole.metrics(.classification) == Metrics(loss: 2, accuracy: 0.5, samples: 4))
        // y = 1, 2, 3; predictions all 2: SSE 2, SST 2, R² 0.
        #expect(Counts(samples: 3, lossSum: 2, targetSum: 6, targetSquareSum: 14).r2 == 0)
        #expect(Counts().loss == nil)
    }

    @Test func `a diverged loss is null, not NaN`() throws {
        #expect(String(decoding: try CohortJSON.encode(Metrics(loss: .nan, samples: 1)), as: UTF8.self) == #"{"samples":1}"#)
    }

    @Test func `machines alike get the same speed class`() {
        func speed(_ measured: Double) -> Double {
            SessionPeer(
                Peer(
                    id: "p", name: "p", ownerId: "o", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1, engine: "native", device: "cpu", samplesPerSecond: measured, platform: "", version: ""),
                    registeredAt: Date(), lastSeen: Date())
            ).speed
        }
        #expect(speed(1_010) == speed(1_040) && speed(1_010) == 1_024)
        #expect(speed(1_450) == 1_024 * 2.0.squareRoot())
        #expect(speed(0) == 1 && speed(.nan) == 1)
    }
}
