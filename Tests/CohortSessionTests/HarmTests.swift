import CohortCore
import CohortSession
import CohortStrategies
import Testing

/// Answers that do harm are left out, and who sends two in a row is quarantined.
@Suite struct HarmTests {
    private func contribution(_ peer: String, norm: Double, cosine: Double?) -> Contribution {
        Contribution(peerId: peer, peerName: peer, samples: 10, sha256: "", weight: 0.25, norm: norm, cosine: cosine)
    }

    private let outcome = RoundOutcome.average(["a", "b", "c", "d"].map { Share(peerId: $0, weight: 0.25) })

    @Test func `conspicuous updates are examined, most conspicuous first`() {
        var stage = Stage(peers: ["a", "b", "c", "d"])
        stage = stage.started()
        func suspects(_ contributions: [Contribution], _ outcome: RoundOutcome) -> [String] {
            stage.machine.suspects(outcome, contributions).map { "\($0.peerId): \($0.reason)" }
        }
        let usual = [
            contribution("a", norm: 1, cosine: 0.4), contribution("b", norm: 1.5, cosine: -0.1), contribution("c", norm: 0.7, cosine: 0.9),
        ]
        #expect(suspects(usual + [contribution("d", norm: 2.5, cosine: 0)], outcome).isEmpty)
        #expect(
            suspects(usual + [contribution("d", norm: 12, cosine: -0.834)], outcome)
                == ["d: is 8 times as long as the median and points against the others' (cosine -0.83)"])
        let two = [
            contribution("a", norm: 1, cosine: -0.5), contribution("b", norm: 1, cosine: 0.4), contribution("c", norm: 9, cosine: 0.1),
        ]
        #expect(
            suspects(two + [contribution("d", norm: 1, cosine: 0.4)], outcome) == [
                "c: is 9 times as long as the median", "a: points against the others' (cosine -0.5)",
            ])
        // Robust rules handle it themselves, and of two it is unknown which.
        #expect(suspects(two, RoundOutcome(.median, outcome.shares)).isEmpty)
        #expect(suspects(Array(two.prefix(2)), outcome).isEmpty)
    }

    @Test func `one such round leaves the answer out, the second in a row the peer`() throws {
        var stage = Stage(peers: ["a", "b", "c", "d"], rounds: 5)
        stage = stage.started()
        for name in ["a", "b", "c", "d"] { stage.done(name) }
        #expect(stage.aggregates)
        stage.send(.harmful(peerId: "d", reason: "its change points away"))
        #expect(stage.place("d")?.state == .ready && stage.place("d")?.answer == nil && stage.place("d")?.trainedSamples == 0)
        #expect(stage.actions.commands.contains { if case .refused("d", 0, _, "its change points away") = $0 { true } else { false } })
        // The others' answers close the round at once.
        let again = try #require(
            stage.actions.objects.lazy.compactMap { if case .aggregate(let outcome) = $0 { outcome } else { nil } }.first)
        #expect(again.shares.map(\.peerId) == ["a", "b", "c"])
        stage.aggregated()
        #expect(stage.session.round == 1 && stage.place("d")?.state == .training, "it gets work again")

        for name in ["a", "b", "c", "d"] { stage.done(name) }
        stage.send(.harmful(peerId: "d", reason: "its change points away"))
        #expect(stage.place("d")?.state == .failed && stage.place("d")?.message == "quarantined: its change points away")
        #expect(stage.actions.effects.contains(.free(peerId: "d")))
        stage.aggregated()
        #expect(stage.session.round == 2)
        stage.send(.joined(Stage.peer("d")))
        #expect(stage.actions.commands.isEmpty || stage.place("d")?.state != .training)
    }

    @Test func `a difference counts by what guessing loses`() {
        var stage = Stage(peers: ["a", "b", "c", "d"])
        stage = stage.started()
        // Of two classes: log 2.
        #expect(abs(stage.machine.harmlessLoss(0.5) - 0.475) < 1e-9)
        #expect(abs(stage.machine.harmlessLoss(0.1) - (0.1 - 0.03 * 0.6931)) < 1e-5)
        #expect(stage.machine.harmlessLoss(0.005) < 0, "of a model that is nearly right nothing does harm")
        #expect(stage.machine.harmlessLoss(.infinity) == .infinity)
    }

    @Test func `an answer that counts in between takes the strike away`() {
        var stage = Stage(peers: ["a", "b", "c", "d"], rounds: 5)
        stage = stage.started()
        for name in ["a", "b", "c", "d"] { stage.done(name) }
        stage.send(.harmful(peerId: "d", reason: "x"))
        stage.aggregated()
        for name in ["a", "b", "c", "d"] { stage.done(name) }
        stage.aggregated()
        #expect(stage.place("d")?.strikes == nil && stage.place("d")?.countedRound == 1)
        for name in ["a", "b", "c", "d"] { stage.done(name) }
        stage.send(.harmful(peerId: "d", reason: "x"))
        #expect(stage.place("d")?.state == .ready)
    }

    /// The document has a round in short; what is recorded of it has all, also when the validation comes later, and after a restart.
    @Test func `a receipt's part of a round outlives a later measurement and a restart`() throws {
        for restarts in [false, true] {
            var stage = Stage(peers: ["a", "b", "c", "d"], rounds: 2)
            stage = stage.started()
            for name in ["a", "b", "c", "d"] { stage.done(name) }
            let contributions = [contribution("a", norm: 1, cosine: 0.4)]
            stage.send(
                .aggregated(
                    ObjectReference(key: "w0", sha256: "aa", bytes: 1), measured: nil, outer: nil, contributions: contributions, of: outcome
                ))
            let recorded = try #require(stage.actions.records.rounds.last)
            #expect(recorded.contributions == contributions && recorded.outcome == outcome && recorded.weightsSha256 == "aa")
            #expect(stage.session.lastRound == recorded.short && recorded.short.contributions == nil)
            if restarts {
                stage.machine = SessionMachine(stage.session, strategy: FedAvg(), rules: .init(enableWait: 30, peerWait: 60))
                stage.machine.restore(recorded)
                stage.send(.resumed)
                stage.enable(["a", "b", "c", "d"])
            }
            for name in ["a", "b", "c", "d"] { stage.done(name) }
            stage.aggregated()
            let again = try #require(stage.actions.records.rounds.first { $0.round == 0 })
            #expect(again.validation != nil && again.contributions == contributions && again.outcome == outcome)
        }
    }

    @Test func `an outcome without a peer weighs the others again`() {
        var outcome = RoundOutcome(
            .krum(malicious: 1, keep: 4), ["a", "b", "c", "d", "e"].map { Share(peerId: $0, weight: 0.2) }, mixing: 2)
        outcome.shares[0].weight = 0.1
        let without = outcome.without(["b", "c"])
        #expect(without.shares.map(\.peerId) == ["a", "d", "e"] && abs(without.shares[0].weight - 0.2) < 1e-12)
        #expect(without.rule == .krum(malicious: 1, keep: 3) && without.mixing == 1)
        #expect(outcome.without(["a", "b", "c", "d", "e"]).shares.isEmpty)
    }
}
