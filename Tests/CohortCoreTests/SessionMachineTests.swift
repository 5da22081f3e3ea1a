import CohortCore
import CohortStrategies
import FoundationEssentials
import Testing

/// Drives a machine and keeps what it asked for.
struct Stage: CustomTestStringConvertible {
    var testDescription: String { "stage" }
    var machine: SessionMachine
    var now = 1_000.0
    var step = Step()

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
            id: "s", ownerId: "o", createdAt: Date(timeIntervalSince1970: 1_000_000), settings: settings,
            peers: peers.map { SessionPeer(Stage.peer($0)) }, uploadPath: nil,
            filename: "f.csv")
        session.generation = 1
        machine = SessionMachine(session, strategy: FedAvg(), rules: .init(enableWait: 30, peerWait: 60))
    }

    var session: Session { machine.session }
    func place(_ name: String) -> SessionPeer? { session.peers.first { $0.id == name } }

    var moment: Moment { Moment(date: Date(timeIntervalSince1970: 1_000_000 + now), seconds: now) }

    @discardableResult mutating func send(_ event: SessionMachine.Event) -> Step {
        step = machine.handle(event, now: moment)
        return step
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

    var trained: [String] { step.commands.compactMap { if case .train(let id) = $0 { id } else { nil } } }
    var enabled: [String] { step.commands.compactMap { if case .enable(let id, _) = $0 { id } else { nil } } }
    var stopped: [String] { step.commands.compactMap { if case .stop(let id, _) = $0 { id } else { nil } } }
    var aggregates: Bool { step.objects.contains { if case .aggregate = $0 { true } else { false } } }
    var ends: Bool { session.status.isFinal && session.isEnding == true }
    var claims: Int? { step.effects.lazy.compactMap { if case .claim(let count) = $0 { count } else { nil } }.first }
    var words: String { step.notices.map(\.message).joined(separator: "\n") }
    var concludes: (ObjectReference, Metrics)? {
        step.objects.lazy.compactMap { if case .conclude(let weights, let metrics) = $0 { (weights, metrics) } else { nil } }.first
    }
}

@Suite struct SessionMachineTests {
    @Test func `a session goes from preparation over its rounds and the last evaluation to its model`() throws {
        var stage = Stage()
        stage.prepare()
        #expect(stage.session.status == .running)
        #expect(stage.enabled.count == 3)
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
        stage.send(.done(event, norm: 1, measured: nil))
        let before = stage.session
        #expect(stage.machine.isRepeat(event))
        stage.send(.done(event, norm: 1, measured: nil))
        #expect(stage.session == before && stage.step.isEmpty)
    }

    @Test func `an older generation, another round, a stranger are fenced off`() {
        var stage = Stage()
        stage = stage.started()
        let before = stage.session
        for event in [stage.doneEvent("a", generation: 0), stage.doneEvent("a", round: 1), stage.doneEvent("z")] {
            #expect(!stage.machine.accepts(generation: event.generation, round: event.round, peerId: event.peerId))
            stage.send(.done(event, norm: 1, measured: nil))
            stage.send(
                .heartbeat(
                    HeartbeatEvent(
                        sessionId: "s", peerId: event.peerId, generation: event.generation, round: event.round, epoch: 1, loss: 1,
                        accuracy: nil, samplesPerSecond: nil, progress: nil)))
            #expect(stage.session == before && stage.step.isEmpty)
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
        let accepted = stage.step.records.answers
        #expect(accepted.map(\.peerId) == ["a"] && accepted.first?.generation == 1)
        #expect(!stage.machine.mustStore, "the answer is recorded without the document")

        func resumed(_ session: Session, _ answers: [RecordedAnswer], after seconds: Double = 0) -> Stage {
            var next = Stage()
            next.now += seconds
            var session = session
            session.generation = 2
            next.machine = SessionMachine(session, strategy: FedAvg(), rules: .init(enableWait: 30, peerWait: 60))
            next.machine.restore(answers)
            next.send(.resumed)
            #expect(next.place("b")?.state == .locked, "nobody is late because the coordinator was away")
            next.enable(["a", "b", "c"])
            return next
        }
        for seconds in [0.0, 600, 1e9] {
            var next = resumed(stored, accepted, after: seconds)
            #expect(next.place("a")?.state == .done && next.place("a")?.trainedSamples == 30)
            #expect(next.place("b")?.state == .training && next.place("b")?.message == nil)
            #expect(next.place("b")?.speed == next.place("a")?.speed)
            next.done("b")
            next.done("c")
            #expect(next.aggregates)
        }

        var other = try #require(accepted.first)
        other.answer.round = 1
        #expect(resumed(stored, [other]).place("a")?.state == .training, "an answer to another round")
        other = try #require(accepted.first)
        other.attempt = 99
        #expect(resumed(stored, [other]).place("a")?.state == .training, "an answer to another attempt")
        other = try #require(accepted.first)
        other.peerId = "z"
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

    @Test func `when everybody is lost mid-round, the round begins anew, and answers to the first attempt are fenced off`() {
        var stage = Stage(peers: ["a"])
        stage = stage.started()
        var early = stage.doneEvent("a")
        early.attempt = stage.place("a")?.attempt
        stage.send(.peerLost(peerId: "a", why: "silent"))
        stage.send(.joined(Stage.peer("a", registration: 2)))
        stage.enable(["a"])
        #expect(stage.trained == ["a"] && stage.session.round == 0 && stage.place("a")?.rows.first?.count == 90)
        #expect(!stage.machine.awaits(early))
        stage.send(.done(early, norm: 1, measured: nil))
        #expect(!stage.aggregates && stage.place("a")?.state == .training)
        stage.done("a")
        #expect(stage.aggregates, "a peer that names no attempt answers what it was asked for last")
    }

    @Test func `numbers that cannot be are told from those that can`() {
        var stage = Stage()
        stage = stage.started()
        #expect(stage.machine.implausibility(of: stage.doneEvent("a")) == nil)
        let changes: [(inout DoneResults) -> Void] = [
            { $0.samples = .max }, { $0.samples = -1 }, { $0.samples = 91 }, { $0.epochs = .max }, { $0.seconds = .nan },
            { $0.loss = .infinity },
            { $0.evaluation = Counts(samples: .max) }, { $0.evaluation = Counts(samples: 0, correct: 1) },
        ]
        for change in changes {
            var event = stage.doneEvent("a")
            change(&event.results)
            #expect(stage.machine.implausibility(of: event) != nil, "\(event.results)")
        }
    }

    @Test
    func `a refused update is asked for again as a new attempt; at the third refusal its peer is out of the round, not of the session`() {
        var stage = Stage(peers: ["a", "b"])
        stage = stage.started()
        var attempts = [stage.place("a")?.attempt]
        for _ in 0..<2 {
            stage.send(.refused(stage.doneEvent("a"), why: "NaN"))
            #expect(stage.trained == ["a"] && stage.place("a")?.state == .training)
            #expect(stage.step.commands.contains { if case .refused("a", 0, _, "NaN") = $0 { true } else { false } }, "it is told why")
            attempts.append(stage.place("a")?.attempt)
        }
        #expect(Set(attempts).count == 3, "three attempts: \(attempts)")
        stage.send(.refused(stage.doneEvent("a"), why: "NaN"))
        #expect(stage.place("a")?.state == .ready && stage.place("a")?.message == "NaN")
        stage.done("b")
        #expect(stage.aggregates)
        stage.aggregated()
        #expect(stage.session.weights?.key == "w0" && stage.trained == ["a", "b"], "it gets work again in the next round")
    }

    @Test func `an error that cannot be retried fails the peer, and the session when it was the last`() {
        var stage = Stage(peers: ["a"])
        stage = stage.started()
        stage.send(.error(ErrorEvent(sessionId: "s", peerId: "a", generation: 1, round: 0, message: "loss is NaN", retryable: false)))
        #expect(stage.session.status == .failed && stage.session.error == "a: loss is NaN" && stage.ends)
    }

    @Test func `a slow peer is left out after the deadline, gets a smaller share, and rises again when it is fast`() throws {
        var stage = Stage(rounds: 9)
        stage = stage.started()
        let speed = try #require(stage.place("c")?.speed)
        stage.now += 1
        for name in ["a", "b", "c"] { stage.done(name) }
        stage.aggregated()
        stage.now += 1
        stage.done("a")
        stage.done("b")
        stage.now += 4
        stage.send(.tick)
        #expect(!stage.aggregates, "five seconds of grace")
        stage.now += 3
        stage.send(.tick)
        #expect(stage.aggregates && stage.place("c")?.speed == speed / 2)
        stage.send(.done(stage.doneEvent("c"), norm: 1, measured: nil))
        #expect(stage.place("c")?.answer == nil, "late is late")
        // It trains as fast as the others from now on: a sample takes all of them as long.
        for _ in 0..<5 {
            stage.aggregated()
            for name in ["a", "b", "c"] {
                var event = stage.doneEvent(name)
                event.results.samples = stage.place(name)?.rowCount ?? 0
                event.results.seconds = Double(event.results.samples) / 10
                stage.send(.done(event, norm: 1, measured: nil))
            }
        }
        #expect(try #require(stage.place("c")?.speed) == speed, "what it shows counts, not what it once missed")
    }

    /// 321 rows and one peer that is 200 times slower: its share is a row or two.
    @Test func `a batch larger than a share is that peer's smaller batch, and is noted once`() throws {
        var stage = Stage(rounds: 3, change: { $0.batchSize = 32 })
        stage.machine = SessionMachine(
            {
                var session = stage.session
                session.peers[2].speed = session.peers[0].speed / 200
                return session
            }(), strategy: FedAvg(), rules: .init())
        stage.prepare()
        stage.enable(["a", "b"])
        stage.enable(["c"])
        #expect(stage.session.status == .running && stage.trained == ["a", "b", "c"])
        let share = try #require(stage.place("c")?.rowCount)
        #expect((1...2).contains(share))
        #expect(stage.words.contains("batch_size 32 is larger than c's share of \(share) row"), "\(stage.words)")
        for name in ["a", "b", "c"] { stage.done(name) }
        stage.aggregated()
        #expect(!stage.words.contains("c's share"), "once")
    }

    @Test func `three late rounds, ten, a hundred: a session goes on`() {
        var stage = Stage(rounds: 200, change: { $0.batchSize = 32 })
        stage = stage.started()
        for _ in 0..<100 {
            stage.now += 1
            for name in ["a", "b"] where stage.place(name)?.state == .training { stage.done(name) }
            stage.now += 20
            stage.send(.tick)
            #expect(stage.session.status == .running, "\(stage.session.error ?? "")")
            stage.aggregated()
        }
        #expect(stage.session.round == 100)
    }

    @Test func `the first fast answer closes no round`() {
        var stage = Stage(peers: ["a", "b", "c", "d", "e"])
        stage = stage.started()
        stage.done("a")
        stage.now += 50
        stage.send(.tick)
        #expect(!stage.aggregates && stage.machine.timeLimit == nil)
        stage.done("b")
        stage.send(.tick)
        #expect(!stage.aggregates, "two of five are fewer than half")
    }

    @Test(arguments: ["fedavg", "independent"]) func `a peer that beats but gives no sign of work is left out, and the session ends`(
        name: String
    ) throws {
        var stage = Stage(rounds: 2, change: { $0.minPeers = 3 })
        let strategy: any Strategy = name == "fedavg" ? FedAvg() : Independent()
        stage.machine = SessionMachine(stage.session, strategy: strategy, rules: .init())
        stage = stage.started()
        stage.done("a")
        stage.done("b")
        stage.now += 20
        stage.send(.tick)
        #expect(try #require(stage.session.waitingFor).contains("c"), "it says whom it waits for: \(stage.session.waitingFor ?? "nothing")")
        stage.now += 50
        stage.send(.tick)
        #expect(stage.aggregates)
        if name == "independent" {
            #expect(stage.place("c")?.state == .failed && stage.place("c")?.message?.contains("no sign of work for 70 s") == true)
            stage.aggregated()
            #expect(stage.concludes != nil)
            return
        }
        #expect(stage.place("c")?.state == .ready, "once is forgiven")
        stage.aggregated()
        #expect(stage.trained == ["a", "b", "c"])
        stage.done("a")
        stage.done("b")
        stage.now += 70
        stage.send(.tick)
        #expect(stage.place("c")?.state == .failed && stage.stopped == ["c"], "twice is not")
        stage.aggregated()
        // min_peers are not there any more, but the model is.
        #expect(stage.concludes?.0.key == "w1")
    }

    @Test func `signs of work keep a peer in a round however long it takes; patience grows with the gaps that were seen`() {
        var stage = Stage(change: { $0.epochs = 100 })
        stage = stage.started()
        for _ in 0..<1_000 {
            stage.now += 59
            stage.send(.progress(ProgressEvent(sessionId: "s", peerId: "a", generation: 1, phase: .training, progress: 0.5)))
            for name in ["b", "c"] {
                stage.send(.progress(ProgressEvent(sessionId: "s", peerId: name, generation: 1, phase: .loading, progress: 0.5)))
            }
        }
        #expect(stage.session.peers.allSatisfy { $0.state == .training })
        stage.now += 4 * 59 - 1
        stage.send(.tick)
        #expect(stage.session.peers.allSatisfy { $0.state == .training }, "four times the longest gap")
        stage.now += 2
        stage.send(.tick)
        #expect(stage.session.peers.allSatisfy { $0.state != .training } || stage.session.peers.allSatisfy { $0.misses == 1 })
    }

    @Test func `a peer that registered again and never answers ENABLE keeps no round open`() {
        var stage = Stage(peers: ["a", "b"])
        stage = stage.started()
        stage.send(.peerRegistered(Stage.peer("b", registration: 2)))
        stage.done("a")
        for _ in 0..<40 {
            stage.now += 1
            stage.send(.tick)
            if stage.aggregates { break }
        }
        #expect(stage.aggregates && stage.place("b")?.state == .lost)
    }

    @Test func `a joiner that has to load the data set makes nobody wait, and is dealt rows once it is READY`() {
        var stage = Stage(rounds: 9)
        stage = stage.started()
        stage.send(.peerLost(peerId: "c", why: "silent"))
        stage.send(.joined(Stage.peer("d")))
        #expect(stage.step.commands == [.enable(peerId: "d", prepares: true)], "it is told what to load")
        stage.send(.enabled(EnabledEvent(sessionId: "s", peerId: "d", generation: 1, capabilities: nil, ready: false)))
        for _ in 0..<3 {
            stage.done("a")
            stage.done("b")
            #expect(stage.aggregates)
            stage.aggregated()
            #expect(stage.trained == ["a", "b"] && stage.place("d")?.state == .loading)
            stage.now += 50
            stage.send(.progress(ProgressEvent(sessionId: "s", peerId: "d", generation: 1, phase: .loading, progress: 0.1)))
        }
        stage.send(.ready(ReadyEvent(sessionId: "s", peerId: "d", generation: 1)))
        stage.done("a")
        stage.done("b")
        stage.aggregated()
        #expect(stage.trained == ["a", "b", "d"])
    }

    @Test func `a declared speed without bound gets a bounded share, and speeds never leave their bounds`() throws {
        for rate in [1e308, .infinity, .nan, -1, 0, .leastNonzeroMagnitude, 1e12] {
            var stage = Stage(peers: ["a", "b", "c", "d"])
            var peer = Stage.peer("z")
            peer.capabilities.samplesPerSecond = rate
            var session = stage.session
            session.peers[3] = SessionPeer(peer)
            stage.machine = SessionMachine(session, strategy: FedAvg(), rules: .init())
            stage.prepare()
            stage.enable(["a", "b", "c", "z"])
            let rows = stage.session.peers.map(\.rowCount)
            #expect(rows.reduce(0, +) == 90 && rows[3] <= 66 && rows[0] >= 8, "\(rate): \(rows)")
            #expect(throws: Never.self) { try CohortJSON.encode(stage.session) }
        }
    }

    @Test func `a session document always encodes, whatever seconds a DONE claims`() throws {
        for seconds in [3e-308, .leastNonzeroMagnitude, 0, 1e9] {
            var stage = Stage()
            stage = stage.started()
            var event = stage.doneEvent("a")
            event.results.seconds = seconds
            #expect(stage.machine.implausibility(of: event) == nil)
            stage.send(.done(event, norm: 1, measured: nil))
            #expect(throws: Never.self) { try CohortJSON.encode(stage.session) }
        }
    }

    @Test func `a heartbeat of an epoch that nobody asked for, or a repeat, is not recorded`() {
        var stage = Stage(change: { $0.epochs = 2 })
        stage = stage.started()
        func beat(_ epoch: Int) -> SessionMachine.Event {
            .heartbeat(
                HeartbeatEvent(
                    sessionId: "s", peerId: "a", generation: 1, round: 0, epoch: epoch, loss: 1, accuracy: nil, samplesPerSecond: nil,
                    progress: nil))
        }
        #expect(stage.send(beat(1)).records.points.count == 1)
        for epoch in [1, 0, -1, 3, 1_000_000, .max] { #expect(stage.send(beat(epoch)).isEmpty, "\(epoch)") }
        #expect(stage.send(beat(2)).records.points.count == 1)
    }

    @Test func `max_norm_ratio means what it says, from the first round on; without it a long update is shortened`() throws {
        for (limit, isRefused) in [(nil, false), (1.5, true), (5.0, true), (50.0, false)] as [(Double?, Bool)] {
            var stage = Stage(peers: ["a", "b", "c"], rounds: 9, change: { $0.maxNormRatio = limit })
            stage = stage.started()
            stage.done("a", norm: 1)
            stage.done("b", norm: 1)
            stage.done("c", norm: 20)
            let outcome = try #require(
                stage.step.objects.lazy.compactMap { if case .aggregate(let outcome) = $0 { outcome } else { nil } }.first)
            guard case .average(let shares) = outcome else { return #expect(Bool(false)) }
            #expect(shares.map(\.peerId) == (isRefused ? ["a", "b"] : ["a", "b", "c"]), "\(limit ?? 0)")
            #expect(stage.words.contains("20 times as long as the median"), "\(stage.words)")
            if !isRefused { #expect(shares.map(\.scale) == [1, 1, 0.5], "to 10 times the median") }
            #expect((stage.place("c")?.state == .ready) == isRefused)
            stage.aggregated()
            #expect(stage.trained == ["a", "b", "c"], "out of this round only")
        }
    }

    @Test func `one peer alone is held against its own updates before`() {
        for limit in [nil, 5.0] {
            var stage = Stage(peers: ["a"], rounds: 9, change: { $0.maxNormRatio = limit })
            stage = stage.started()
            for _ in 0..<5 {
                stage.done("a")
                stage.aggregated()
            }
            stage.done("a", norm: 20)
            #expect(stage.aggregates == (limit == nil) && stage.words.contains("20 times as long"))
            #expect(stage.session.status == .running)
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

    @Test func `a peer that never measures does not cost the model: it is handed out with what was measured`() {
        var stage = Stage(peers: ["a", "b"], rounds: 1)
        stage = stage.started()
        for name in ["a", "b"] { stage.done(name) }
        stage.aggregated()
        for _ in 0..<10 where stage.concludes == nil {
            stage.done("a")
            var event = stage.doneEvent("b")
            event.results.evaluation = nil
            stage.send(.done(event, norm: nil, measured: nil))
        }
        #expect(stage.concludes?.0.key == "w0" && stage.concludes?.1.samples == 15)
    }

    @Test func `when everybody dies after the last round, the trained model is handed out`() {
        var stage = Stage(peers: ["a"], rounds: 1)
        stage = stage.started()
        stage.done("a")
        stage.aggregated()
        stage.send(.peerLost(peerId: "a", why: "silent"))
        #expect(stage.concludes?.0.key == "w0")
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

    @Test func `early stopping goes back to the best weights`() {
        var stage = Stage(peers: ["a"], rounds: 50, change: { $0.earlyStopping = 2 })
        stage = stage.started()
        stage.done("a")
        stage.aggregated()
        for loss in [3.0, 2, 4, 5] {
            stage.send(.done(stage.doneEvent("a", evaluation: Counts(samples: 30, lossSum: loss * 30)), norm: 1, measured: nil))
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
            .done(done, norm: 1, measured: nil), .refused(done, why: ""),
            .error(ErrorEvent(sessionId: "s", peerId: "a", generation: 1, round: 0, message: "", retryable: true)),
            .aggregated(reference, measured: nil), .concluded(reference, Metrics(loss: 1, samples: 1)), .tick,
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
            #expect(stage.session.status.isFinal && stage.ends && stage.session.endedAt == stage.moment.date)
            #expect(stage.session.peers.count(where: \.isAlive) == 3)
        }
    }

    @Test func `what the server measured decides: the best weights, early stopping, and the final metrics`() throws {
        var stage = Stage(peers: ["a"], rounds: 50, change: { $0.earlyStopping = 2 })
        stage = stage.started()
        // The peer's word falls and falls; what is measured does not.
        for loss in [2.0, 1, 3, 4, 5] {
            stage.send(
                .done(stage.doneEvent("a", evaluation: Counts(samples: stage.session.weights == nil ? 0 : 30)), norm: 1, measured: nil))
            stage.send(
                .aggregated(
                    ObjectReference(key: "w\(stage.session.round)", sha256: "", bytes: 1),
                    measured: Counts(samples: 30, lossSum: loss * 30)))
            if stage.concludes != nil { break }
        }
        #expect(stage.concludes?.0.key == "w1" && stage.concludes?.1.loss == 1)
    }

    @Test func `a peer that lies about its own model does not win, and is said to have reported otherwise`() throws {
        var stage = Stage(peers: ["a", "b"])
        stage.machine = SessionMachine(stage.session, strategy: Independent(), rules: .init())
        stage = stage.started()
        for (name, said, measured) in [("a", 0.0, 2.0), ("b", 1.0, 1.0)] {
            var event = stage.doneEvent(name)
            event.results.ownEvaluation = Counts(samples: 30, lossSum: said * 30, correct: 20)
            stage.send(.done(event, norm: 1, measured: Counts(samples: 30, lossSum: measured * 30, correct: 20)))
            #expect(stage.words.contains("the server measured") == (name == "a"), "\(stage.words)")
        }
        #expect(stage.step.objects == [.aggregate(.select(peerId: "b"))])
    }

    @Test func `a slice that a peer measured wrong counts as it was measured by the server`() throws {
        var stage = Stage(peers: ["a", "b"], rounds: 1)
        stage = stage.started()
        for name in ["a", "b"] { stage.done(name) }
        stage.aggregated()
        for name in ["a", "b"] {
            let event = stage.doneEvent(name, evaluation: Counts(samples: 15, lossSum: name == "a" ? 0 : 15, correct: 15))
            stage.send(.done(event, norm: nil, measured: Counts(samples: 15, lossSum: 15, correct: 5)))
        }
        let metrics = try #require(stage.concludes?.1)
        #expect(metrics.loss == 1 && metrics.accuracy == 1 / 3 && metrics.samples == 30)
        stage.send(.concluded(ObjectReference(key: "m", sha256: "", bytes: 1), metrics))
        #expect(stage.session.results?.reported?.loss == 0.5, "what the peers said is there as well")
    }

    @Test func `an update that changed after it was accepted closes the round without its peer`() throws {
        var stage = Stage(peers: ["a", "b"])
        stage = stage.started()
        for name in ["a", "b"] { stage.done(name) }
        stage.send(.aggregationFailed(peerId: "b", why: "its bytes changed"))
        let outcome = try #require(stage.step.objects.first)
        #expect(outcome == .aggregate(.average([Share(peerId: "a", weight: 1)])))
        stage.aggregated()
        #expect(stage.trained == ["a", "b"] && stage.session.lastRound?.dropped["b"] == "its bytes changed")
    }
}
