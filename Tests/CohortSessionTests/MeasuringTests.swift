import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// What is believed of an answer, and what the model is judged by.
@Suite struct MeasuringTests {
    @Test func `max_norm_ratio means what it says, from the first round on; without it a long update is shortened`() throws {
        for (limit, isRefused) in [(nil, false), (1.5, true), (5.0, true), (50.0, false)] as [(Double?, Bool)] {
            var stage = Stage(peers: ["a", "b", "c"], rounds: 9, change: { $0.maxNormRatio = limit })
            stage = stage.started()
            stage.done("a", norm: 1)
            stage.done("b", norm: 1)
            stage.done("c", norm: 20)
            let outcome = try #require(
                stage.actions.objects.lazy.compactMap { if case .aggregate(let outcome) = $0 { outcome } else { nil } }.first)
            let shares = outcome.shares
            #expect(outcome.rule == .mean)
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
        stage.send(.peerLost(peerId: "b", reason: "silent"))
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

    @Test func `a peer that lies about its own model does not win, and its report is noted as wrong`() throws {
        var stage = Stage(peers: ["a", "b"])
        stage.machine = SessionMachine(stage.session, strategy: Independent(), rules: .init())
        stage = stage.started()
        for (name, said, measured) in [("a", 0.0, 2.0), ("b", 1.0, 1.0)] {
            var event = stage.doneEvent(name)
            event.results.ownEvaluation = Counts(samples: 30, lossSum: said * 30, correct: 20)
            stage.send(.done(event, norm: 1, measured: Counts(samples: 30, lossSum: measured * 30, correct: 20)))
            #expect(stage.words.contains("the server measured") == (name == "a"), "\(stage.words)")
        }
        #expect(stage.actions.objects == [.aggregate(.select(peerId: "b"))])
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
        stage.send(.concluded(model: ObjectReference(key: "m", sha256: "", bytes: 1), metrics: metrics, evaluation: nil))
        #expect(stage.session.results?.reported?.loss == 0.5, "what the peers said is there as well")
    }

    @Test func `an update that changed after it was accepted closes the round without its peer`() throws {
        var stage = Stage(peers: ["a", "b"])
        stage = stage.started()
        for name in ["a", "b"] { stage.done(name) }
        stage.send(.aggregationFailed(peerId: "b", reason: "its bytes changed"))
        let outcome = try #require(stage.actions.objects.first)
        #expect(outcome == .aggregate(.average([Share(peerId: "a", weight: 1)])))
        stage.aggregated()
        #expect(stage.trained == ["a", "b"] && stage.session.lastRound?.dropped["b"] == "its bytes changed")
    }
}
