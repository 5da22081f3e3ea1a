import CohortCore
import CohortWire
import FoundationEssentials
import Testing

@testable import CohortSession

/// The rules of the session machine that need no session.
@Suite struct MachineRuleTests {
    private func peer(_ id: String, speed: Double, change: (inout SessionPeer) -> Void = { _ in }) -> SessionPeer {
        var peer = SessionPeer(id: id, name: id, engine: "native", device: "cpu", registration: 1, speed: speed)
        change(&peer)
        return peer
    }

    private func answer(samples: Int, seconds: Double) -> PeerAnswer {
        PeerAnswer(
            round: 0, workRound: nil, results: DoneResults(loss: 1, accuracy: nil, samples: samples, epochs: 1, seconds: seconds),
            update: nil, answeredAt: .init(timeIntervalSince1970: 0), seconds: seconds, norm: 1, streamNorms: nil, measured: nil)
    }

    // MARK: Norms

    @Test func `norms are compared with the round's median, or with earlier ones where few answered`() {
        #expect(NormRule.median(of: [3, 1, 2], earlier: [9, 9, 9, 9, 9]) == 2)
        #expect(NormRule.median(of: [3, 1], earlier: [9, 8, 7, 6, 5]) == 7)
        #expect(NormRule.median(of: [3, 1], earlier: [9, 8, 7, 6]) == nil)
        #expect(NormRule.median(of: [0, 0, 5], earlier: []) == nil, "nothing can be compared with 0")
    }

    @Test func `a long update is reported, then clipped, and refused above the setting`() {
        #expect(NormRule.verdict(ratio: 3, limit: nil) == .normal && NormRule.verdict(ratio: 3.1, limit: nil) == .long)
        #expect(NormRule.verdict(ratio: 10, limit: nil) == .long && NormRule.verdict(ratio: 40, limit: nil) == .clipped(scale: 0.25))
        #expect(NormRule.verdict(ratio: 2.1, limit: 2) == .refused && NormRule.verdict(ratio: 2, limit: 2) == .normal)
        #expect(NormRule.streamScale(ratio: 3) == 1 && NormRule.streamScale(ratio: 6) == 0.5 && NormRule.streamScale(ratio: 31) == 0)
    }

    // MARK: Harm

    @Test func `harm is a clear difference of the held-out loss, also where the loss is small`() {
        let classes = ModelSpec(inputs: 1, hidden: [], outputs: 4, task: .classification)
        #expect(HarmRule.harmlessLoss(2, of: classes) == 1.9)
        let small = HarmRule.harmlessLoss(0.01, of: classes)
        #expect(abs(small - (0.01 - 0.03 * 1.386294)) < 1e-6, "3 % of the loss of guessing among four classes")
        #expect(HarmRule.harmlessLoss(.nan, of: classes) == .infinity)
        #expect(HarmRule.harmlessLoss(1, of: ModelSpec(inputs: 1, hidden: [], outputs: 1, task: .regression)) == 0.95)
    }

    @Test func `updates that are long or point against the others are suspects, the most conspicuous first`() {
        func contribution(_ id: String, _ norm: Double, cosine: Double) -> Contribution {
            Contribution(peerId: id, peerName: id, samples: 1, sha256: "", key: nil, weight: 1, norm: norm, cosine: cosine)
        }
        let round = [
            contribution("a", 1, cosine: 0.9), contribution("b", 1, cosine: -0.5), contribution("c", 8, cosine: 0.9),
            contribution("d", 1, cosine: 0.8),
        ]
        let suspects = HarmRule.suspects(among: round, streamRatios: ["d": ["exp_avg": 50]])
        #expect(suspects.map(\.peerId) == ["d", "c", "b"])
        #expect(suspects[0].hasLongStream && suspects[0].reason.contains("exp_avg 50 times"))
        #expect(suspects[1].reason == "is 8 times as long as the median" && suspects[2].reason.contains("cosine -0.5"))
        #expect(HarmRule.suspects(among: Array(round.prefix(2)), streamRatios: [:]).isEmpty, "two have no median")
    }

    // MARK: Speed

    @Test func `octaves are the logarithm, within ten`() {
        for (ratio, octaves) in [(1.0, 0.0), (2, 1), (0.25, -2), (8, 3), (0x1p20, 10), (0, -10)] {
            #expect(abs(SpeedModel.octaves(ratio) - octaves) < 1e-4, "\(ratio)")
        }
        #expect(abs(SpeedModel.octaves(3) - 1.584963) < 1e-5)
    }

    @Test func `a peer that is slower than its share is corrected, a short round changes nothing`() {
        func peers(seconds: Double) -> [SessionPeer] {
            var peers = ["a", "b", "c"].map { peer($0, speed: 1_024) }
            for (index, samples) in [1_000, 1_000, 250].enumerated() { peers[index].answer = answer(samples: samples, seconds: seconds) }
            SpeedModel.correct(&peers, answered: [0, 1, 2])
            return peers
        }
        #expect(peers(seconds: 1).map(\.speed) == [1_024, 1_024, 256])
        #expect(peers(seconds: 0.1).map(\.speed) == [1_024, 1_024, 1_024])
    }

    @Test func `a peer that was late gets its speed back in steps of four once it answers`() {
        var peers = [peer("a", speed: 1_024), peer("b", speed: 1_024)]
        for _ in 0..<4 { peers[1].slowDown(to: SpeedModel.bounded(peers[1].speed / 2, among: peers), reason: "late") }
        #expect(peers[1].speed == 64 && peers[1].speedBeforeLate == 1_024)
        for expected in [256.0, 1_024] {
            SpeedModel.correct(&peers, answered: [1])
            #expect(peers[1].speed == expected)
        }
        #expect(peers[1].speedBeforeLate == nil && peers[1].isRegaining == nil)
        #expect(SpeedModel.bounded(1e9, among: peers) == 64 * 1_024 && SpeedModel.bounded(0, among: peers) == 16)
    }

    // MARK: Places

    @Test func `a transition changes all that belongs to it`() {
        var place = peer("a", speed: 1)
        place.rows = [RowRange(start: 0, end: 10)]
        place.train(attempt: 4)
        place.epoch = 3
        #expect(place.state == .training && place.attempt == 4)
        place.restart(registration: 2)
        #expect(place.state == .locked && place.restarts == 1 && place.registration == 2 && place.progress == 0)
        place.train()
        #expect(place.attempt == 4, "the attempt goes on")
        place.finish(with: answer(samples: 10, seconds: 2), maxUpdateBytes: 100)
        #expect(place.state == .done && place.restarts == nil && place.trainedSamples == 10 && place.workedSeconds == 2)
        place.lock()
        #expect(place.state == .done, "a stored answer stays")
        place.discardAnswer()
        #expect(place.answer == nil && place.trainedSamples == 0)
        place.lose(reason: "silent")
        #expect(place.state == .lost && place.progress == 1 && place.message == "silent" && !place.isAlive)
        place.rejoin(as: peer("a", speed: 9))
        #expect(place.state == .locked && place.speed == 1 && place.workedSeconds == 2 && place.restarts == 1)
        place.exclude(reason: "harm")
        #expect(place.state == .failed && place.progress == 0)
    }

    @Test func `what goes on in a buffered round counts in the round that it was assigned in`() {
        var place = peer("a", speed: 1)
        place.train(attempt: 1)
        place.endRound(3, keepsWorking: true)
        place.endRound(4, keepsWorking: true)
        #expect(place.state == .training && place.workRound == 3)
        place.stopWork()
        #expect(place.state == .ready && place.workRound == nil)
    }

    @Test func `a phase follows from the document, and knows when the round began`() {
        var session = Session(
            id: "s", ownerId: "o", createdAt: .init(timeIntervalSince1970: 0), settings: SessionSettings(), peers: [], upload: nil,
            filename: "f.csv")
        #expect(Phase(session) == .betweenRounds)
        session.roundStartedAt = session.createdAt
        #expect(Phase(session) == .interrupted && Phase(session).roundBeganAt == nil && !Phase(session).isBusy)
        #expect(Phase.aggregating(since: 2).roundBeganAt == 2 && Phase.aggregating(since: 2).isBusy && Phase.concluding.isBusy)
    }
}
