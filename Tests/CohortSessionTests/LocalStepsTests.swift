import CohortCore
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

@testable import CohortSession

/// Rounds of so many steps of the optimizer, in place of epochs.
@Suite struct LocalStepsTests {
    private func peer(rows: Int) -> SessionPeer {
        var peer = SessionPeer(Stage.peer("a"))
        peer.rows = [RowRange(start: 0, end: rows)]
        return peer
    }

    @Test func `a peer has as many epochs as its steps begin`() {
        var settings = SessionSettings(batchSize: 8)
        settings.localSteps = 10
        // Of 30 rows four batches an epoch, of 8 one, of none one that never comes.
        #expect(settings.hyperparameters(of: peer(rows: 30)).epochs == 3)
        #expect(settings.hyperparameters(of: peer(rows: 80)).epochs == 1)
        #expect(settings.hyperparameters(of: peer(rows: 8)).epochs == 10)
        #expect(settings.hyperparameters(of: peer(rows: 0)).epochs == 10)
        settings.perPeer = ["a": .init(batchSize: 30)]
        #expect(settings.hyperparameters(of: peer(rows: 30)).epochs == 10)
        settings.localSteps = nil
        #expect(settings.hyperparameters(of: peer(rows: 30)).epochs == 1)
    }

    @Test func `epochs beside it are refused, and so are too many`() {
        func refusal(_ change: (inout SessionSettings) -> Void) -> String {
            var settings = SessionSettings()
            settings.localSteps = 100
            change(&settings)
            do { try settings.check() } catch { return "\((error as? CohortError)?.message ?? "")" }
            return ""
        }
        #expect(refusal { _ in } == "")
        #expect(refusal { $0.epochs = 3 } == "epochs is 3; it must be absent with local_steps, which takes its place")
        #expect(refusal { $0.perPeer = ["lena": .init(epochs: 2)] }.hasPrefix("per_peer.lena.epochs must be absent"))
        #expect(refusal { $0.perPeer = ["lena": .init(lr: 2)] } == "")
        #expect(refusal { $0.localSteps = 0 } == "local_steps is 0; it must be a whole number from 1 to 100000, or absent")
        #expect(refusal { $0.localSteps = 100_001 }.contains("from 1 to 100000"))
    }

    @Test func `rounds are chosen by them`() {
        func rounds(_ steps: Int) -> Int {
            var settings = SessionSettings.defaults(peers: 2, seed: 1)
            settings.localSteps = steps
            let choice = WorkChoice(settings, ofOwnModels: false, rows: 1_000, peers: 2)
            #expect(choice.epochs == 1)
            return choice.rounds
        }
        #expect(rounds(100) == 10 && rounds(10) == 40 && rounds(1) == 100)
    }

    @Test func `a part of an epoch is no lie, counts by its steps, and is no pass over the rows`() throws {
        var stage = Stage(peers: ["a", "b"]) {
            ($0.localSteps, $0.weighting, $0.automatic) = (7, .steps, ["epochs", "batch_size"])
            $0.perPeer = ["b": .init(batchSize: 45)]
        }
        stage.prepare()
        #expect(stage.session.ledger == nil && stage.session.settings.batchSize == 8)
        #expect(stage.words.contains("batch_size 8") && !stage.words.contains("epochs 1"))
        stage.enable(["a", "b"])
        #expect(stage.place("a")?.rowCount == 45)
        // Of 45 rows six batches of 8 an epoch: one epoch and a step, or seven epochs of one batch.
        func done(_ name: String, samples: Int, epochs: Int) -> DoneEvent {
            var event = stage.doneEvent(name)
            (event.results.samples, event.results.epochs) = (samples, epochs)
            return event
        }
        #expect(stage.machine.verdict(on: done("a", samples: 53, epochs: 1)) == .current)
        #expect(stage.machine.verdict(on: done("a", samples: 91, epochs: 2)).isImplausible)
        #expect(stage.machine.verdict(on: done("b", samples: 315, epochs: 7)) == .current)
        stage.send(.done(done("a", samples: 53, epochs: 1), norm: 1, measured: nil))
        stage.send(.done(done("b", samples: 135, epochs: 3), norm: 1, measured: nil))
        let outcome = stage.actions.objects.lazy.compactMap { if case .aggregate(let outcome) = $0 { outcome } else { nil } }.first
        #expect(try #require(outcome).shares.map { ($0.weight * 10).rounded() } == [7, 3])
    }

    @Test func `a notice says how many epochs its peer has`() throws {
        var stage = Stage(peers: ["a", "b"]) { $0.localSteps = 7 }
        stage = stage.started()
        stage.send(
            .heartbeat(
                HeartbeatEvent(
                    sessionId: "s", peerId: "a", generation: 1, round: 0, epoch: 2, loss: 0.5, accuracy: 0.5, samplesPerSecond: 1,
                    progress: 1)))
        #expect(stage.place("a")?.epoch == 2)
        #expect(stage.actions.notices.first { $0.kind == .epoch }?.epochs == 2)
    }
}
