import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// A session from its preparation to its end.
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
        stage.send(.concluded(model: ObjectReference(key: "m", sha256: "", bytes: 1), metrics: concluded.1, evaluation: nil))
        #expect(stage.session.status == .completed && stage.ends && stage.session.progress == 1)
        #expect(stage.session.results?.rows == RowUse(rows: 90, least: 2, most: 2, mean: 2))
    }

    @Test func `a repeated DONE counts once`() {
        var stage = Stage()
        stage = stage.started()
        let event = stage.doneEvent("a")
        stage.send(.done(event, norm: 1, measured: nil))
        let before = stage.session
        #expect(stage.machine.verdict(on: event) == .repeated)
        stage.send(.done(event, norm: 1, measured: nil))
        #expect(stage.session == before && stage.actions.isEmpty)
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
            #expect(stage.session == before && stage.actions.isEmpty)
        }
    }

    @Test func `recorded answers to the round under way are taken over by the next coordinator, and no others`() throws {
        var stage = Stage()
        stage = stage.started()
        let stored = stage.session
        stage.machine.stored(stored)
        stage.done("a")
        let accepted = stage.actions.records.answers
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
            #expect(next.place("b")?.state == .locked, "no peer is late because the coordinator was away")
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

    @Test func `implausible numbers are distinguished from plausible ones`() {
        var stage = Stage()
        stage = stage.started()
        #expect(stage.machine.verdict(on: stage.doneEvent("a")) == .current)
        let changes: [(inout DoneResults) -> Void] = [
            { $0.samples = .max }, { $0.samples = -1 }, { $0.samples = 91 }, { $0.epochs = .max }, { $0.seconds = .nan },
            { $0.loss = .infinity },
            { $0.evaluation = Counts(samples: .max) }, { $0.evaluation = Counts(samples: 0, correct: 1) },
        ]
        for change in changes {
            var event = stage.doneEvent("a")
            change(&event.results)
            #expect(stage.machine.verdict(on: event).isImplausible, "\(event.results)")
        }
    }

    @Test
    func `a refused update is asked for again as a new attempt; at the third refusal its peer is out of the round, not of the session`() {
        var stage = Stage(peers: ["a", "b"])
        stage = stage.started()
        var attempts = [stage.place("a")?.attempt]
        for _ in 0..<2 {
            stage.send(.refused(stage.doneEvent("a"), reason: "NaN"))
            #expect(stage.trained == ["a"] && stage.place("a")?.state == .training)
            #expect(
                stage.actions.commands.contains { if case .refused("a", 0, _, "NaN") = $0 { true } else { false } },
                "it receives the reason")
            attempts.append(stage.place("a")?.attempt)
        }
        #expect(Set(attempts).count == 3, "three attempts: \(attempts)")
        stage.send(.refused(stage.doneEvent("a"), reason: "NaN"))
        #expect(stage.place("a")?.state == .ready && stage.place("a")?.message == "NaN")
        stage.done("b")
        #expect(stage.aggregates)
        stage.aggregated()
        #expect(stage.session.weights?.key == "w0" && stage.trained == ["a", "b"], "it gets work again in the next round")
    }

    @Test func `a session document always encodes, whatever seconds a DONE claims`() throws {
        for seconds in [3e-308, .leastNonzeroMagnitude, 0, 1e9] {
            var stage = Stage()
            stage = stage.started()
            var event = stage.doneEvent("a")
            event.results.seconds = seconds
            #expect(stage.machine.verdict(on: event) == .current)
            stage.send(.done(event, norm: 1, measured: nil))
            #expect(throws: Never.self) { try CohortJSON.encode(stage.session) }
        }
    }

    @Test func `a heartbeat of an epoch that was not asked for, or a repeat, is not recorded`() {
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

    @Test func `when all peers die after the last round, the trained model is handed out`() {
        var stage = Stage(peers: ["a"], rounds: 1)
        stage = stage.started()
        stage.done("a")
        stage.aggregated()
        stage.send(.peerLost(peerId: "a", reason: "silent"))
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
            .done(done, norm: 1, measured: nil), .refused(done, reason: ""),
            .error(ErrorEvent(sessionId: "s", peerId: "a", generation: 1, round: 0, message: "", retryable: true)),
            .aggregated(reference, measured: nil), .concluded(model: reference, metrics: Metrics(loss: 1, samples: 1), evaluation: nil),
            .tick,
        ]
        if status.isFinal {
            events += [
                .enabled(EnabledEvent(sessionId: "s", peerId: "a", generation: 1, capabilities: nil)), .peerLost(peerId: "a", reason: ""),
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
}
