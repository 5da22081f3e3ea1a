import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// Drives a machine and keeps what it asked for.
struct Stage: CustomTestStringConvertible {
    var testDescription: String { "stage" }
    var machine: SessionMachine
    var now = 1_000.0
    var actions = SessionActions()

    static let schema = TableSchema(
        hasHeader: true, delimiter: ",", columns: [.init(name: "x", kind: .numeric, mean: 0, std: 1), .init(name: "y", kind: .target)],
        target: "y",
        task: .classification, classes: ["a", "b"], validation: 0.2, splitSeed: 1, trainingRows: 90, validationRows: 30, droppedRows: 0)

    static func peer(_ name: String, registration: Int = 1) -> Peer {
        Peer(
            id: name, name: name, ownerId: "o", tokenId: "t",
            capabilities: PeerCapabilities(
                cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1_000, platform: "", version: ""),
            registration: registration, registeredAt: Date(timeIntervalSince1970: 0), lastSeen: Date(timeIntervalSince1970: 0))
    }

    init(
        peers: [String] = ["a", "b", "c"], rounds: Int = 2, strategy: any Strategy = FedAvg(),
        change: (inout SessionSettings) -> Void = { _ in }
    ) {
        var settings = SessionSettings(peers: peers.count, rounds: rounds, batchSize: 8, seed: 1)
        change(&settings)
        var session = Session(
            id: "s", ownerId: "o", createdAt: Date(timeIntervalSince1970: 1_000_000), settings: settings,
            peers: peers.map { SessionPeer(Stage.peer($0)) }, upload: nil,
            filename: "f.csv")
        session.generation = 1
        machine = SessionMachine(session, strategy: strategy, rules: .init(enableWait: 30, peerWait: 60))
    }

    var session: Session { machine.session }
    func place(_ name: String) -> SessionPeer? { session.peers.first { $0.id == name } }

    var moment: Moment { Moment(date: Date(timeIntervalSince1970: 1_000_000 + now), seconds: now) }

    @discardableResult mutating func send(_ event: SessionMachine.Event) -> SessionActions {
        actions = machine.handle(event, now: moment)
        return actions
    }

    mutating func prepare() {
        send(
            .prepared(
                DatasetInfo(
                    filename: "f.csv", csvLink: "s3://b/k", object: ObjectReference(key: "k", sha256: "", bytes: 1), schema: Self.schema,
                    schemaObject: ObjectReference(key: "schemas/s.json", sha256: "", bytes: 1),
                    warnings: []),
                ModelSpec(inputs: 1, hidden: [], outputs: 2, task: .classification)))
    }

    mutating func enable(_ names: [String]) {
        for name in names { send(.enabled(EnabledEvent(sessionId: "s", peerId: name, generation: session.generation, capabilities: nil))) }
    }

    mutating func started() -> Stage {
        prepare()
        enable(session.peers.map(\.id))
        return self
    }

    func doneEvent(_ name: String, round: Int? = nil, generation: Int? = nil, evaluation: Counts? = nil) -> DoneEvent {
        let slice = place(name)?.validationRows?.count ?? 0
        let measured =
            evaluation
            ?? (session.weights != nil && slice > 0 ? Counts(samples: slice, lossSum: Double(slice) / 2, correct: slice / 2) : nil)
        return DoneEvent(
            sessionId: "s", peerId: name, generation: generation ?? session.generation, round: round ?? session.round,
            results: DoneResults(loss: 0.5, accuracy: 0.8, samples: 30, epochs: 1, seconds: 1, evaluation: measured),
            update: ObjectReference(key: "u-\(name)", sha256: "", bytes: 1))
    }

    mutating func done(_ name: String, norm: Double = 1) { send(.done(doneEvent(name), norm: norm, measured: nil)) }

    mutating func aggregated() { send(.aggregated(ObjectReference(key: "w\(session.round)", sha256: "", bytes: 1), measured: nil)) }

    var trained: [String] { actions.commands.compactMap { if case .train(let id) = $0 { id } else { nil } } }
    var enabled: [String] { actions.commands.compactMap { if case .enable(let id, _) = $0 { id } else { nil } } }
    var stopped: [String] { actions.commands.compactMap { if case .stop(let id, _) = $0 { id } else { nil } } }
    var aggregates: Bool { actions.objects.contains { if case .aggregate = $0 { true } else { false } } }
    var ends: Bool { session.status.isFinal && session.isEnding == true }
    var claims: Int? { actions.effects.lazy.compactMap { if case .claim(let count) = $0 { count } else { nil } }.first }
    var words: String { actions.notices.map(\.message).joined(separator: "\n") }
    var concludes: (ObjectReference, Metrics)? {
        actions.objects.lazy.compactMap { if case .conclude(let weights, let metrics) = $0 { (weights, metrics) } else { nil } }.first
    }
}

extension SessionMachine.Verdict {
    var isImplausible: Bool { if case .implausible = self { true } else { false } }
}
