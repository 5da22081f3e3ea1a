import CohortCore
import CohortWire
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
        var train = TrainCommand(
            work: WorkKey(sessionId: "s", generation: 1, round: 0), csvLink: "s3://b/t.csv",
            table: TableLink(tableSha256: "ab"),
            start: StartingModel(model: ModelSpec(inputs: 1, hidden: [4], outputs: 2, task: .classification), modelSeed: 9),
            plan: WorkPlan(rows: [RowRange(start: 0, end: 8)], epochs: 2),
            options: TrainingOptions(batchSize: 4, learningRate: 0.1, dropoutSeed: 1 << 52))
        train.start.weightsUrl = "/objects/w"
        let bytes = try CohortJSON.encode(Command.train(train))
        #expect(try CohortJSON.decode(Command.self, from: bytes) == .train(train))
        let text = String(decoding: bytes, as: UTF8.self)
        for name in ["csv_link", "table_sha256", "batch_size", "weights_url", "model_seed"] {
            #expect(text.contains("\"\(name)\":"), "\(name)")
        }
    }

    @Test func `unknown fields are ignored, unknown types are distinguished from damage`() throws {
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
        case .train(let message):
            let parts: [Any] = [message, message.table, message.start, message.plan, message.options, try #require(message.update)]
            for part in parts { expectWhole(part, without: type == "TRAIN" ? ["moduleUrl", "moduleOwner"] : []) }
            // Without a value they are 0.
            #expect(message.options.labelSmoothing > 0 && message.options.proximalMu > 0 && message.work.attempt > 0)
        case .refused(let message): expectWhole(message)
        case .stop(let message): expectWhole(message)
        }
    }

    @Test func `a manifest's example is read, checked and written without loss`() throws {
        let bytes = try example("TABLE")
        let manifest = try CohortJSON.decode(TableManifest.self, from: bytes)
        try manifest.check()
        try expectSame(bytes, try CohortJSON.encode(manifest))
        expectWhole(manifest)
        #expect(try manifest.floats(ofDictionary: try #require(manifest.dictionary)) == [-1.2, 0.1, 1.4])
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
