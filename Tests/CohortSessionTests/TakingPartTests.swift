import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// Who takes part: enabled, lost, back, joined.
@Suite struct TakingPartTests {
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
        stage.send(.peerLost(peerId: "b", reason: "silent"))
        stage.aggregated()
        #expect(stage.trained == ["a"])
    }

    @Test func `the rows of a lost peer go to the others in the next round`() {
        var stage = Stage()
        stage = stage.started()
        stage.done("a")
        stage.done("b")
        stage.send(.peerLost(peerId: "c", reason: "silent"))
        #expect(stage.aggregates, "the round closes with those who answered")
        stage.aggregated()
        #expect(stage.trained == ["a", "b"])
        #expect(stage.session.peers.filter(\.isAlive).flatMap(\.rows).reduce(0) { $0 + $1.count } == 90)
        #expect(stage.claims == 1, "a place is free")
        #expect(stage.session.lastRound?.dropped["c"] == "silent")
    }

    @Test func `a goodbye is no loss, and a newcomer that is not needed is reported once`() {
        var stage = Stage()
        stage = stage.started()
        stage.send(.notNeeded(Stage.peer("d")))
        #expect(
            stage.actions.notices.map(\.message).count == 1
                && stage.words.contains("d is available but not needed: the session has the 3 peers"), "\(stage.words)")
        stage.send(.notNeeded(Stage.peer("d")))
        stage.send(.notNeeded(Stage.peer("a")))
        #expect(stage.actions.notices.map(\.message).isEmpty)
        stage.send(.peerLeft(peerId: "c"))
        #expect(stage.actions.notices.map(\.message) == ["c has left; its 30 rows go to the others"])
        #expect(stage.place("c")?.state == .lost)
    }

    @Test func `a newcomer is enabled at once and trains from the next round`() {
        var stage = Stage()
        stage = stage.started()
        stage.send(.peerLost(peerId: "c", reason: "silent"))
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
        stage.send(.peerLost(peerId: "a", reason: "silent"))
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

    @Test func `when all peers are lost mid-round, the round begins again, and answers to the first attempt are fenced off`() {
        var stage = Stage(peers: ["a"])
        stage = stage.started()
        var early = stage.doneEvent("a")
        early.attempt = stage.place("a")?.attempt
        stage.send(.peerLost(peerId: "a", reason: "silent"))
        stage.send(.joined(Stage.peer("a", registration: 2)))
        stage.enable(["a"])
        #expect(stage.trained == ["a"] && stage.session.round == 0 && stage.place("a")?.rows.first?.count == 90)
        #expect(stage.machine.verdict(on: early) == .stale)
        stage.send(.done(early, norm: 1, measured: nil))
        #expect(!stage.aggregates && stage.place("a")?.state == .training)
        stage.done("a")
        #expect(stage.aggregates, "a peer that names no attempt answers what it was asked for last")
    }

    @Test func `a permanent error fails the peer, and the session when it was the last`() {
        var stage = Stage(peers: ["a"])
        stage = stage.started()
        stage.send(.error(ErrorEvent(sessionId: "s", peerId: "a", generation: 1, round: 0, message: "loss is NaN", retryable: false)))
        #expect(stage.session.status == .failed && stage.session.error == "a: loss is NaN" && stage.ends)
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

    @Test func `a joiner that has to load the data set delays no other, and is dealt rows once it is READY`() {
        var stage = Stage(rounds: 9)
        stage = stage.started()
        stage.send(.peerLost(peerId: "c", reason: "silent"))
        stage.send(.joined(Stage.peer("d")))
        #expect(stage.actions.commands == [.enable(peerId: "d", prepares: true)], "it receives the links to load")
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

    @Test func `a loader whose links have expired is given new ones; at the third failure in a row it is excluded`() {
        var stage = Stage(rounds: 9)
        stage = stage.started()
        stage.send(.peerLost(peerId: "c", reason: "silent"))
        stage.send(.joined(Stage.peer("d")))
        stage.send(.enabled(EnabledEvent(sessionId: "s", peerId: "d", generation: 1, capabilities: nil, ready: false)))
        let failure = ErrorEvent(sessionId: "s", peerId: "d", generation: 1, round: 0, message: "the link has expired", retryable: true)
        for _ in 0..<2 {
            stage.send(.error(failure))
            #expect(stage.actions.commands == [.enable(peerId: "d", prepares: true)])
        }
        stage.send(.ready(ReadyEvent(sessionId: "s", peerId: "d", generation: 1)))
        #expect(stage.place("d")?.state == .ready)

        stage.send(.peerLost(peerId: "d", reason: "silent"))
        stage.send(.joined(Stage.peer("d")))
        stage.send(.enabled(EnabledEvent(sessionId: "s", peerId: "d", generation: 1, capabilities: nil, ready: false)))
        for _ in 0..<3 { stage.send(.error(failure)) }
        #expect(stage.place("d")?.state == .failed && stage.actions.commands == [.stop(peerId: "d", .failed)])
    }

    @Test func `a peer whose process ends three times in a row at the session's work gets no more of it`() {
        var stage = Stage(peers: ["a", "b"], rounds: 3)
        stage = stage.started()
        for registration in 2...3 {
            stage.send(.peerRegistered(Stage.peer("b", registration: registration)))
            #expect(stage.place("b")?.state == .locked)
            stage.enable(["b"])
            #expect(stage.place("b")?.state == .training, "it is asked again")
        }
        stage.send(.peerRegistered(Stage.peer("b", registration: 4)))
        #expect(stage.place("b")?.state == .failed)
        #expect(stage.place("b")?.message == "its process ended 3 times while it worked on this session")
        #expect(stage.actions.effects.contains(.free(peerId: "b")))
    }

    @Test func `an answer in between, or a restart without work, is no reason`() {
        var stage = Stage(peers: ["a", "b"], rounds: 3)
        stage = stage.started()
        for registration in 2...6 {
            stage.send(.peerRegistered(Stage.peer("b", registration: registration)))
            stage.enable(["b"])
            if registration % 2 == 1 {
                stage.done("b")
                stage.done("a")
                stage.aggregated()
            }
        }
        #expect(stage.place("b")?.isAlive == true)
    }

    @Test func `a peer that was lost and comes back restarted is counted as well`() {
        var stage = Stage(peers: ["a", "b"], rounds: 3)
        stage = stage.started()
        for registration in 2...4 {
            stage.send(.peerLost(peerId: "b", reason: "silent too long"))
            stage.send(.joined(Stage.peer("b", registration: registration)))
            stage.enable(["b"])
            if registration < 4 { #expect(stage.place("b")?.isAlive == true) }
        }
        #expect(stage.place("b")?.state == .failed)
    }

    @Test func `a peer whose memory cannot hold the model is left out, with both sizes`() {
        var stage = Stage(peers: ["a", "b"]) { $0.hidden = [4_000, 4_000] }
        var session = stage.session
        session.peers[1].memoryBytes = 100 << 20
        stage.machine = SessionMachine(session, strategy: FedAvg(), rules: .init())
        stage.send(
            .prepared(
                DatasetInfo(
                    filename: "f.csv", csvLink: "s3://b/k", object: ObjectReference(key: "k", sha256: "", bytes: 1), schema: Stage.schema,
                    schemaObject: ObjectReference(key: "schemas/s.json", sha256: "", bytes: 1), warnings: []),
                ModelSpec(inputs: 1, hidden: [4_000, 4_000], outputs: 2, task: .classification)))
        #expect(stage.place("a")?.isAlive == true && stage.place("b")?.state == .failed)
        #expect(
            stage.place("b")?.message
                == "training this model needs 305 MiB of memory, the machine has 100 MiB: choose smaller hidden layers")
        #expect(stage.enabled == ["a"])
    }

    @Test func `a failure names three peers and counts the others`() {
        let names = (1...1_000).map { "peer-\($0)" }
        var stage = Stage(peers: names) { $0.minPeers = 1 }
        stage = stage.started()
        for name in names { stage.send(.peerLost(peerId: name, reason: "silent too long")) }
        stage.now += 100
        stage.send(.tick)
        let error = stage.session.error ?? ""
        #expect(error.contains("peer-1 is lost (silent too long)") && error.contains("and 997 more") && error.count < 400, "\(error)")
        #expect(["a", "b"].bounded() == "a, b" && [String]().bounded() == "")
    }
}
