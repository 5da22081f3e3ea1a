import CohortCore
import CohortWire
import Testing

@testable import CohortPeer

func trainCommand(session: String = "s", generation: Int = 1, round: Int = 0) -> TrainCommand {
    TrainCommand(
        work: WorkKey(sessionId: session, generation: generation, round: round), csvLink: "s3://cohort/a.csv",
        table: TableLink(tableSha256: "ab"),
        start: StartingModel(model: ModelSpec(inputs: 1, hidden: [], outputs: 2, task: .classification), modelSeed: 1),
        plan: WorkPlan(rows: [], epochs: 1),
        options: TrainingOptions(batchSize: 8, learningRate: 0.01, dropoutSeed: 1))
}

/// A ledger that can be asked within an expectation.
private final class Desk {
    private var ledger = CommandLedger()
    var running: WorkKey? { ledger.running }
    func receive(_ command: Command) -> [CommandLedger.Action] { ledger.receive(command) }
    func finish(_ key: WorkKey, answer: DoneEvent?) -> Bool { ledger.finish(key, answer: answer) }
}

@Suite
struct CommandLedgerTests {
    private func enable(_ session: String = "s", generation: Int = 1) -> EnableCommand {
        EnableCommand(queue: "coordinator.\(session).events", sessionId: session, generation: generation)
    }

    private func done(_ key: WorkKey) -> DoneEvent {
        DoneEvent(
            sessionId: key.sessionId, peerId: "p", generation: key.generation, round: key.round,
            results: DoneResults(loss: 1, accuracy: nil, samples: 1, epochs: 1, seconds: 1), update: nil)
    }

    private func isIgnored(_ actions: [CommandLedger.Action]) -> Bool {
        if actions.count == 1, case .ignore = actions[0] { true } else { false }
    }

    @Test
    func `ENABLE is answered, TRAIN starts, a repeat of it changes nothing`() {
        let ledger = Desk()
        #expect(ledger.receive(.enable(enable())) == [.answerEnabled(enable())])
        #expect(ledger.receive(.train(trainCommand())) == [.start(trainCommand())])
        #expect(isIgnored(ledger.receive(.train(trainCommand()))))
        #expect(ledger.receive(.enable(enable())) == [.answerEnabled(enable())])
        #expect(ledger.running == trainCommand().work)
    }

    @Test
    func `a repeat of finished work is answered again`() {
        let ledger = Desk()
        let key = trainCommand().work
        _ = ledger.receive(.train(trainCommand()))
        #expect(ledger.finish(key, answer: done(key)))
        #expect(ledger.receive(.train(trainCommand())) == [.repeatAnswer(done(key))])
    }

    @Test
    func `work that failed is tried again when asked for again`() {
        let ledger = Desk()
        _ = ledger.receive(.train(trainCommand()))
        #expect(ledger.finish(trainCommand().work, answer: nil))
        #expect(ledger.receive(.train(trainCommand())) == [.start(trainCommand())])
    }

    @Test
    func `the next round replaces a running one, whose result is not wanted then`() {
        let ledger = Desk()
        let old = trainCommand().work
        _ = ledger.receive(.train(trainCommand()))
        #expect(ledger.receive(.train(trainCommand(round: 1))) == [.stop(old), .start(trainCommand(round: 1))])
        #expect(!ledger.finish(old, answer: done(old)))
        #expect(ledger.running == trainCommand(round: 1).work)
    }

    @Test
    func `a newer generation stops the work of the older, whose commands are ignored from then on`() {
        let ledger = Desk()
        _ = ledger.receive(.train(trainCommand()))
        #expect(
            ledger.receive(.enable(enable(generation: 2))) == [.stop(trainCommand().work), .answerEnabled(enable(generation: 2))])
        #expect(isIgnored(ledger.receive(.train(trainCommand(round: 5)))))
        #expect(isIgnored(ledger.receive(.enable(enable()))))
        #expect(ledger.receive(.train(trainCommand(generation: 2))) == [.start(trainCommand(generation: 2))])
    }

    @Test
    func `STOP ends the work and what comes late of the session, until ENABLE takes the peer in again`() {
        let ledger = Desk()
        _ = ledger.receive(.train(trainCommand()))
        #expect(
            ledger.receive(.stop(StopCommand(sessionId: "s", reason: .completed)))
                == [.stop(trainCommand().work), .leave(sessionId: "s", reason: .completed)])
        #expect(isIgnored(ledger.receive(.train(trainCommand(round: 1)))))
        _ = ledger.receive(.enable(enable()))
        #expect(ledger.receive(.train(trainCommand(round: 1))) == [.start(trainCommand(round: 1))])
    }

    @Test
    func `STOP of another session leaves the work alone`() {
        let ledger = Desk()
        _ = ledger.receive(.train(trainCommand()))
        #expect(
            ledger.receive(.stop(StopCommand(sessionId: "other", reason: .failed))) == [.leave(sessionId: "other", reason: .failed)])
        #expect(ledger.running == trainCommand().work)
    }

    private func prepare(_ session: String) -> EnableCommand {
        var command = enable(session)
        command.prepare = RowsAhead(table: TableLink(tableSha256: ""), rows: [])
        return command
    }

    @Test
    func `STOP, work, and another session end the loading of a data set`() {
        for (next, remains) in [
            (Command.stop(StopCommand(sessionId: "s", reason: .cancelled)), false), (.train(trainCommand()), false),
            (.train(trainCommand(session: "t")), false), (.enable(enable("t")), false), (.enable(prepare("t")), false),
            (.enable(enable()), true), (.stop(StopCommand(sessionId: "t", reason: .cancelled)), true),
        ] {
            var ledger = CommandLedger()
            #expect(ledger.receive(.enable(prepare("s"))) == [.answerEnabled(prepare("s")), .prepare(prepare("s"))])
            let actions = ledger.receive(next)
            #expect(actions.contains(.stopLoading(sessionId: "s")) == !remains, "\(next): \(actions)")
            if !remains { #expect(actions.first == .stopLoading(sessionId: "s"), "before the next begins") }
        }
        var ledger = CommandLedger()
        _ = ledger.receive(.enable(prepare("s")))
        ledger.finishLoading(sessionId: "s")
        #expect(ledger.loading == nil)
        #expect(ledger.receive(.train(trainCommand())) == [.start(trainCommand())], "what is loaded is not stopped")
    }
}
