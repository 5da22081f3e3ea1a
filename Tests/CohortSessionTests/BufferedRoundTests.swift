import CohortCore
import CohortStrategies
import CohortWire
import Testing

@testable import CohortSession

/// Rounds that close when some have answered.
@Suite struct BufferedRoundTests {
    private func stage(peers: [String] = ["a", "b", "c"], rounds: Int = 4, size: Int = 2) -> Stage {
        var stage = Stage(peers: peers, rounds: rounds, strategy: FedBuff()) { ($0.bufferSize, $0.strategy) = (size, "fedbuff") }
        return stage.started()
    }

    private func outcome(_ stage: Stage) -> RoundOutcome? {
        stage.actions.objects.lazy.compactMap { if case .aggregate(let outcome) = $0 { outcome } else { nil } }.first
    }

    @Test func `a round closes when enough have answered, and a late answer counts in a later one, for less`() throws {
        var stage = stage()
        #expect(stage.place("c")?.state == .training && stage.session.peers.allSatisfy { $0.rowCount == 30 })
        stage.done("a")
        #expect(!stage.aggregates)
        stage.done("b")
        #expect(try #require(outcome(stage)).shares.map(\.peerId) == ["a", "b"])
        stage.aggregated()
        // Those two get another part of the rows; the third goes on with its own.
        #expect(stage.session.round == 1 && stage.trained == ["a", "b"])
        let late = try #require(stage.place("c"))
        #expect(late.state == .training && late.workRound == 0 && late.rowCount == 30)
        #expect(Set(["a", "b", "c"].compactMap { stage.place($0)?.rows.first?.start }).count == 2, "a has what b had, b what c has")
        #expect(stage.session.lastRound?.dropped.isEmpty == true)

        // Its signs of work and its answer are of the round that it was given.
        stage.send(
            .heartbeat(
                HeartbeatEvent(
                    sessionId: "s", peerId: "c", generation: 1, round: 0, epoch: 1, loss: 0.5, accuracy: 0.5, samplesPerSecond: 1,
                    progress: 1)))
        #expect(stage.place("c")?.epoch == 1)
        #expect(
            stage.machine.verdict(on: stage.doneEvent("c", round: 1)) == .stale
                && stage.machine.verdict(on: stage.doneEvent("c", round: 0)) == .current)
        stage.done("a")
        stage.send(.done(stage.doneEvent("c", round: 0), norm: 1, measured: nil))
        #expect(stage.machine.verdict(on: stage.doneEvent("c", round: 0)) == .repeated)
        let shares = try #require(outcome(stage)).shares
        #expect(shares.map(\.peerId) == ["a", "c"] && shares[0].scale == 1 && abs(shares[1].scale - 0.5.squareRoot()) < 1e-12)
        stage.aggregated()
        #expect(stage.place("c")?.countedRound == 0 && stage.place("a")?.countedRound == 1)
        #expect(stage.trained == ["a", "c"] && stage.place("b")?.workRound == 1 && stage.place("c")?.workRound == nil)
    }

    @Test func `after the last round no peer is waited for, and a late answer does not count`() {
        var stage = stage(rounds: 1)
        stage.done("a")
        stage.done("b")
        stage.aggregated()
        // The model is measured, by all.
        #expect(stage.machine.isEvaluation && stage.trained == ["a", "b", "c"])
        #expect(!stage.machine.accepts(generation: 1, round: 0, peerId: "c"))
    }

    @Test func `a coordinator that takes over lets all begin with the newest weights, but for answers that are stored`() throws {
        var stage = stage()
        stage.done("a")
        stage.done("b")
        stage.aggregated()
        stage.send(.done(stage.doneEvent("c", round: 0), norm: 1, measured: nil))
        let recorded = stage.actions.records.answers
        #expect(recorded.map(\.answer.round) == [1] && recorded.map(\.answer.workRound) == [0])
        // As it was stored before that answer.
        var session = stage.session
        let index = try #require(session.peers.firstIndex { $0.id == "c" })
        session.peers[index].train()
        session.peers[index].answer = nil
        session.peers[index].workRound = 0
        session.generation = 2
        stage.machine = SessionMachine(session, strategy: FedBuff(), rules: .init())
        stage.machine.restore(recorded)
        #expect(stage.place("c")?.state == .done)
        stage.send(.resumed)
        stage.enable(["a", "b", "c"])
        #expect(stage.place("a")?.state == .training && stage.place("a")?.workRound == nil)
        stage.done("a")
        #expect(try #require(outcome(stage)).shares.map(\.peerId) == ["a", "c"])
        #expect(try #require(outcome(stage)).shares[1].scale < 1)
    }

    @Test func `a late peer that is lost, or starts again, delays no other`() {
        var stage = stage()
        stage.done("a")
        stage.done("b")
        stage.aggregated()
        stage.send(.peerRegistered(Stage.peer("c", registration: 2)))
        stage.enable(["c"])
        // Its work of the older round is lost: it begins with the newest weights.
        #expect(stage.trained == ["c"] && stage.place("c")?.workRound == nil && stage.place("c")?.state == .training)
        stage.send(.peerLost(peerId: "c", reason: "silent"))
        stage.done("a")
        stage.done("b")
        #expect(stage.aggregates)
        stage.aggregated()
        #expect(stage.session.round == 2 && stage.trained == ["a", "b"])
    }

    @Test func `with fewer peers than answers to wait for, a round has those there are`() {
        var stage = stage(peers: ["a", "b"], size: 2)
        stage.send(.peerLost(peerId: "b", reason: "silent"))
        stage.done("a")
        #expect(stage.aggregates)
    }
}
