import CohortCore
import CohortStrategies
import FoundationEssentials
import Testing

/// Drives a machine and keeps what it asked for.
private struct Stage {
    var machine: SessionMachine
    var now = Date(timeIntervalSince1970: 1_000_000)
    var actions: [SessionMachine.Action] = []

    static let schema = TableSchema(
        hasHeader: true, delimiter: ",", columns: [.init(name: "x", kind: .numeric, mean: 0, std: 1), .init(name: "y", kind: .target)],
        target: "y",
        task: .classification, classes: ["a", "b"], validation: 0.2, splitSeed: 1, trainingRows: 90, validationRows: 30, droppedRows: 0)

    static func peer(_ name: String, registration: Int = 1) -> Peer {
        Peer(
            id: name, name: name, ownerId: "o", tokenId: "t",
            capabilities: PeerCapabilities(
                cores: 1, memoryBytes: 1, engine: "native", device: "cpu", samplesPerSecond: 1_000, platform: "", version: ""),
            registration: registration, registeredAt: Date(timeIntervalSince1970: 0), lastSeen: Date(timeIntervalSince1970: 0))
    }

    init(peers: [String] = ["a", "b", "c"], rounds: Int = 2, change: (inout SessionSettings) -> Void = { _ in }) {
        var settings = SessionSettings(peers: peers.count, rounds: rounds, batchSize: 8, seed: 1)
        change(&settings)
        var session = Session(
            id: "s", ownerId: "o", createdAt: now, settings: settings, peers: peers.map { SessionPeer(Stage.peer($0)) }, uploadPath: nil,
            filename: "f.csv")
        session.generation = 1
        machine = SessionMachine(session, strategy: FedAvg(), rules: .init(enableWait: 30, peerWait: 60))
    }

    var session: Session { machine.session }
    func place(_ name: String) -> SessionPeer? { session.peers.first { $0.id == name } }

    @discardableResult mutating func send(_ event: SessionMachine.Event) -> [SessionMachine.Action] {
        actions = machine.handle(event, now: now)
        return actions
    }

    mutating func prepare() {
        send(
            .prepared(
                DatasetInfo(
                    filename: "f.csv", csvLink: "s3://b/k", object: ObjectReference(key: "k", sha256: "", bytes: 1), schema: Self.schema,
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

    mutating func done(_ name: String, norm: Double = 1) { send(.done(doneEvent(name), norm: norm)) }

    mutating func aggregated() { send(.aggregated(ObjectReference(key: "w\(session.round)", sha256: "", bytes: 1))) }

    var trained: [String] { actions.compactMap { if case .train(let id) = $0 { id } else { nil } } }
    var aggregates: Bool { actions.contains { if case .aggregate = $0 { true } else { false } } }
    var ends: Bool { actions.contains { if case .end = $0 { true } else { false } } }
    var claims: Int? { actions.lazy.compactMap { if case .claim(let count) = $0 { count } else { nil } }.first }
    var concludes: (ObjectReference, Metrics)? {
        actions.lazy.compactMap { if case .conclude(let weights, let metrics) = $0 { (weights, metrics) } else { nil } }.first
    }
}

@Suite struct SessionMachineTests {
    @Test func `a session goes from preparation over its rounds and the last evaluation to its model`() throws {
        var stage = Stage()
        stage.prepare()
        #expect(stage.session.status == .running)
        #expect(stage.actions.count { if case .enable = $0 { true } else { false } } == 3)
        stage.enable(["a", "b"])
        #expect(stage.trained.isEmpty && stage.session.waitingFor?.contains("c") == true, "it waits, and says for whom")
        stage.enable(["c"])
        #expect(stage.trained == ["a", "b", "c"] && stage.session.waitingFor == nil)
        #expect(
            stage.session.peers.map(\.rows) == [
                [RowRange(start: 0, end: 30)], [RowRange(start: 30, end: 60)], [RowRange(start: 60, end: 90)],
            ])
        for round in 0..<2 {
            #expect(stage.session.round == round)
            for name in ["a", "b", "c"] { stage.done(name) }
            #expect(stage.aggregates)
            stage.aggregated()
            #expect(stage.trained == ["a", "b", "c"])
        }
        #expect(stage.session.round == 2 && stage.session.peers.map { $0.validationRows?.count } == [10, 10, 10])
        for name in ["a", "b", "c"] { stage.done(name) }
        let concluded = try #require(stage.concludes)
        #expect(concluded.0.key == "w1" && concluded.1 == Metrics(loss: 0.5, accuracy: 0.5, samples: 30))
        stage.send(.concluded(ObjectReference(key: "m", sha256: "", bytes: 1), concluded.1))
        #expect(stage.session.status == .completed && stage.ends && stage.session.progress == 1)
        #expect(stage.session.results?.rows == RowUse(rows: 90, least: 2, most: 2, mean: 2))
    }

    @Test func `who does not answer ENABLE in time is left behind, and the round begins`() {
        var stage = Stage()
        stage.prepare()
        stage.enable(["a", "b"])
        stage.now += 29
        stage.send(.tick)
        #expect(stage.trained.isEmpty)
        stage.now += 2
        stage.send(.tick)
        #expect(stage.trained == ["a", "b"] && stage.place("c")?.state == .lost)
        // Long after, a loss begins nothing twice.
        stage.now += 100
        stage.done("a")
        stage.send(.peerLost(peerId: "b", why: "silent"))
        stage.aggregated()
        #expect(stage.trained == ["a"])
    }

    @Test func `a repeated DONE counts once`() {
        var stage = Stage()
        stage = stage.started()
        let event = stage.doneEvent("a")
        stage.send(.done(event, norm: 1))
        let before = stage.session
        #expect(stage.machine.isRepeat(event))
        stage.send(.done(event, norm: 1))
        #expect(stage.session == before && stage.actions.isEmpty)
    }

    @Test func `an older generation, another round, a stranger are fenced off`() {
        var stage = Stage()
        stage = stage.started()
        let before = stage.session
        for event in [stage.doneEvent("a", generation: 0), stage.doneEvent("a", round: 1), stage.doneEvent("z")] {
            #expect(!stage.machine.accepts(generation: event.generation, round: event.round, peerId: event.peerId))
            stage.send(.done(event, norm: 1))
            stage.send(
                .heartbeat(
                    HeartbeatEvent(
                        sessionId: "s", peerId: event.peerId, generation: event.generation, round: event.round, epoch: 1, loss: 1,
                        accuracy: nil, samplesPerSecond: nil, progress: nil)))
            #expect(stage.session == before && stage.actions.isEmpty)
        }
    }

    @Test func `the rows of a lost peer go to the others in the next round`() {
        var stage = Stage()
        stage = stage.started()
        stage.done("a")
        stage.done("b")
        stage.send(.peerLost(peerId: "c", why: "silent"))
        #expect(stage.aggregates, "the round closes with those who answered")
        stage.aggregated()
        #expect(stage.trained == ["a", "b"])
        #expect(stage.session.peers.filter(\.isAlive).flatMap(\.rows).reduce(0) { $0 + $1.count } == 90)
        #expect(stage.claims == 1, "a place is free")
        #expect(stage.session.lastRound?.dropped["c"] == "silent")
    }

    @Test func `recorded answers to the round under way are taken over by the next coordinator, and no others`() throws {
        var stage = Stage()
        stage = stage.started()
        let stored = stage.session
        stage.machine.stored(stored)
        stage.done("a")
        let accepted = stage.actions.compactMap { if case .accept(let answer) = $0 { answer } else { nil } }
        #expect(accepted.map(\.peerId) == ["a"] && accepted.first?.generation == 1)
        #expect(!stage.machine.mustStore, "the answer is recorded without the document")

        func resumed(_ session: Session, _ answers: [RecordedAnswer]) -> Stage {
            var next = Stage()
            var session = session
            session.generation = 2
            next.machine = SessionMachine(session, strategy: FedAvg(), rules: .init(enableWait: 30, peerWait: 60))
            next.machine.restore(answers)
            next.send(.resumed)
            next.enable(["a", "b", "c"])
            return next
        }
        var next = resumed(stored, accepted)
        #expect(next.place("a")?.state == .done && next.place("a")?.trainedSamples == 30)
        #expect(next.place("b")?.state == .training)
        next.done("b")
        next.done("c")
        #expect(next.aggregates)

        var other = try #require(accepted.first)
        other.answer.round = 1
        #expect(resumed(stored, [other]).place("a")?.state == .training, "an answer to another round")
        other = try #require(accepted.first)
        other.generation = 0
        #expect(resumed(stored, [other]).place("a")?.state == .training, "an answer to a round that began anew since")
        other = try #require(accepted.first)
        other.peerId = "z"
        var raised = stored
        raised.generation = 2
        stage.machine.stored(stored)
        stage.machine.take(over: raised)
        #expect(stage.session.answersFrom == 2 && stage.machine.mustStore, "a round that begins anew counts answers from then on")
        #expect(resumed(stored, [other]).session.peers.map(\.id) == ["a", "b", "c"], "a stranger's")
    }

    @Test func `a newcomer is enabled at once and trains from the next round`() {
        var stage = Stage()
        stage = stage.started()
        stage.send(.peerLost(peerId: "c", why: "silent"))
        stage.send(.joined(Stage.peer("d")))
        stage.enable(["d"])
        #expect(stage.trained.isEmpty && stage.place("d")?.state == .ready)
        stage.done("a")
        stage.done("b")
        stage.aggregated()
        #expect(stage.trained == ["a", "b", "d"])
    }

    @Test func `a peer that restarted within the round gets the same work again`() {
        var stage = Stage()
        stage = stage.started()
        stage.send(.peerRegistered(Stage.peer("b", registration: 2)))
        #expect(stage.place("b")?.state == .locked)
        stage.enable(["b"])
        #expect(stage.trained == ["b"] && stage.place("b")?.rows == [RowRange(start: 30, end: 60)])
    }

    @Test func `with too few peers it says what it waits for, takes others, and fails after a while`() {
        var stage = Stage(peers: ["a", "b"], change: { $0.minPeers = 2 })
        stage = stage.started()
        stage.send(.peerLost(peerId: "a", why: "silent"))
        stage.done("b")
        stage.aggregated()
        #expect(stage.session.waitingFor?.contains("1 more peer") == true && stage.claims == 1)
        stage.now += 59
        stage.send(.tick)
        #expect(stage.session.status == .running)
        stage.now += 2
        stage.send(.tick)
        #expect(stage.session.status == .failed && stage.session.error?.contains("only 1 of at least 2 peers") == true && stage.ends)
    }

    @Test func `when everybody is lost mid-round, the round begins anew under a new generation`() {
        var stage = Stage(peers: ["a"])
        stage = stage.started()
        stage.send(.peerLost(peerId: "a", why: "silent"))
        #expect(stage.actions.contains { if case .raiseGeneration = $0 { true } else { false } })
        stage.send(.joined(Stage.peer("d")))
        stage.enable(["d"])
        #expect(stage.trained == ["d"] && stage.session.round == 0 && stage.place("d")?.rows.first?.count == 90)
    }

    @Test func `numbers that cannot be are told from those that can`() {
        var stage = Stage()
        stage = stage.started()
        #expect(stage.machine.implausibility(of: stage.doneEvent("a")) == nil)
        let changes: [(inout DoneResults) -> Void] = [
            { $0.samples = .max }, { $0.samples = -1 }, { $0.epochs = .max }, { $0.seconds = .nan }, { $0.loss = .infinity },
            { $0.evaluation = Counts(samples: .max) }, { $0.evaluation = Counts(samples: 0, correct: 1) },
        ]
        for change in changes {
            var event = stage.doneEvent("a")
            change(&event.results)
            #expect(stage.machine.implausibility(of: event) != nil, "\(event.results)")
        }
    }

    @Test func `a refused update is asked for again, three times at most`() {
        var stage = Stage(peers: ["a", "b"])
        stage = stage.started()
        for _ in 0..<2 {
            stage.send(.refused(stage.doneEvent("a"), why: "NaN"))
            #expect(stage.trained == ["a"] && stage.place("a")?.state == .training)
        }
        stage.send(.refused(stage.doneEvent("a"), why: "NaN"))
        #expect(stage.place("a")?.state == .failed && stage.place("a")?.message == "NaN")
        stage.done("b")
        #expect(stage.aggregates)
        stage.aggregated()
        #expect(stage.session.weights?.key == "w0")
    }

    @Test func `an error that cannot be retried fails the peer, and the session when it was the last`() {
        var stage = Stage(peers: ["a"])
        stage = stage.started()
        stage.send(.error(ErrorEvent(sessionId: "s", peerId: "a", generation: 1, round: 0, message: "loss is NaN", retryable: false)))
        #expect(stage.session.status == .failed && stage.session.error == "a: loss is NaN" && stage.ends)
    }

    @Test func `a slow peer is left out after the deadline, and gets half its share`() throws {
        var stage = Stage()
        stage = stage.started()
        let speed = try #require(stage.place("c")?.speed)
        stage.now += 1
        stage.done("a")
        stage.done("b")
        stage.now += 6
        stage.send(.tick)
        #expect(!stage.aggregates, "three times the median and five seconds")
        stage.now += 2
        stage.send(.tick)
        #expect(stage.aggregates && stage.place("c")?.speed == speed / 2)
        stage.send(.done(stage.doneEvent("c"), norm: 1))
        #expect(stage.place("c")?.answer == nil, "late is late")
    }

    @Test func `an update far longer than the others is warned of, or refused when the settings say so`() {
        for limit in [nil, 5.0] {
            var stage = Stage(peers: ["a"], rounds: 9, change: { $0.maxNormRatio = limit })
            stage = stage.started()
            for _ in 0..<5 {
                stage.done("a")
                stage.aggregated()
            }
            stage.done("a", norm: 10)
            #expect(stage.aggregates == (limit == nil))
            #expect(
                stage.actions.contains { if case .tell(let notice) = $0 { notice.message.contains("10 times as long") } else { false } })
        }
    }

    @Test func `an evaluation that misses a slice is done again by the living`() {
        var stage = Stage(peers: ["a", "b"], rounds: 1)
        stage = stage.started()
        for name in ["a", "b"] { stage.done(name) }
        stage.aggregated()
        stage.done("a")
        stage.send(.peerLost(peerId: "b", why: "silent"))
        #expect(stage.trained == ["a"] && stage.place("a")?.validationRows == RowRange(start: 0, end: 30))
        stage.done("a")
        #expect(stage.concludes?.1.samples == 30)
    }

    @Test func `a takeover keeps stored answers and starts the others again`() {
        var stage = Stage()
        stage = stage.started()
        stage.done("a")
        var stored = stage.session
        stored.generation = 2
        stage.machine = SessionMachine(stored, strategy: FedAvg(), rules: .init())
        stage.send(.resumed)
        stage.enable(["b", "c"])
        #expect(stage.place("a")?.state == .done && stage.place("b")?.state == .training)
        stage.done("b")
        stage.done("c")
        #expect(stage.aggregates)
    }

    @Test func `a batch larger than a share is said, with both numbers`() {
        var stage = Stage(change: { $0.batchSize = 31 })
        stage = stage.started()
        #expect(stage.session.status == .failed)
        #expect(stage.session.error?.contains("batch_size 31 is larger than a's share of 30 rows") == true, "\(stage.session.error ?? "")")
    }

    @Test func `early stopping goes back to the best weights`() {
        var stage = Stage(peers: ["a"], rounds: 50, change: { $0.earlyStopping = 2 })
        stage = stage.started()
        stage.done("a")
        stage.aggregated()
        for loss in [3.0, 2, 4, 5] {
            stage.send(.done(stage.doneEvent("a", evaluation: Counts(samples: 30, lossSum: loss * 30)), norm: 1))
            stage.aggregated()
            if stage.concludes != nil { break }
        }
        #expect(stage.concludes?.0.key == "w1" && stage.concludes?.1.loss == 2)
    }

    /// Every event in every final state, and what is out of place in PENDING: nothing happens.
    @Test(arguments: [SessionStatus.completed, .failed, .cancelled, .pending]) func `events out of place change nothing`(
        status: SessionStatus
    ) {
        var stage = Stage()
        stage = stage.started()
        let done = stage.doneEvent("a")
        var session = stage.session
        session.status = status
        let dataset = session.dataset
        let reference = ObjectReference(key: "x", sha256: "", bytes: 0)
        var events: [SessionMachine.Event] = [
            .resumed,
            .heartbeat(
                HeartbeatEvent(
                    sessionId: "s", peerId: "a", generation: 1, round: 0, epoch: 1, loss: 1, accuracy: 1, samplesPerSecond: 1, progress: 1)),
            .done(done, norm: 1), .refused(done, why: ""),
            .error(ErrorEvent(sessionId: "s", peerId: "a", generation: 1, round: 0, message: "", retryable: true)),
            .aggregated(reference), .concluded(reference, Metrics(loss: 1, samples: 1)), .tick,
        ]
        if status.isFinal {
            events += [
                .enabled(EnabledEvent(sessionId: "s", peerId: "a", generation: 1, capabilities: nil)), .peerLost(peerId: "a", why: ""),
                .peerRegistered(Stage.peer("a", registration: 9)), .joined(Stage.peer("z")), .cancelled, .failed("x"),
            ]
            if let dataset { events.append(.prepared(dataset, ModelSpec(inputs: 1, hidden: [], outputs: 2, task: .classification))) }
        }
        for event in events {
            stage.machine = SessionMachine(session, strategy: FedAvg(), rules: .init())
            #expect(stage.send(event).isEmpty && stage.session == session, "\(event)")
        }
    }

    @Test(arguments: [SessionStatus.pending, .running]) func `cancelling and failing end what has not ended, and stop the living`(
        status: SessionStatus
    ) {
        for event in [SessionMachine.Event.cancelled, .failed("why")] {
            var stage = Stage()
            if status == .running { stage = stage.started() }
            stage.send(event)
            #expect(stage.session.status.isFinal && stage.ends && stage.session.endedAt == stage.now)
            #expect(stage.actions.contains { if case .stop(let ids, _) = $0 { ids == ["a", "b", "c"] } else { false } })
        }
    }
}
