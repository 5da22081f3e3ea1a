import CohortAPI
import CohortCore
import CohortWire
import Logging

/// Work: one piece at a time, the newest that was asked for.
extension Peer {
    func carryOut(with trainer: Trainer) async {
        for await work in work {
            switch work {
            case .release: await trainer.release()
            case .train(let command, let control): await carryOut(command, control, with: trainer)
            case .prepare(let command, let control): await prepare(command, control, with: trainer)
            }
        }
    }

    private func carryOut(_ command: TrainCommand, _ control: RunControl, with trainer: Trainer) async {
        let key = command.work
        guard !control.isStopped, let registered else { return }
        let (peerId, ownerId, credential) = (registered.peerId, registered.ownerId, registered.credential)
        logger.info(
            "\(command.plan.epochs > 0 ? "training" : "evaluating"): \(key)",
            metadata: [
                "rows": "\(command.plan.rows.reduce(0) { $0 + $1.count })", "epochs": "\(command.plan.epochs)",
                "batch_size": "\(command.options.batchSize)",
                "lr": "\(command.options.learningRate)",
            ])
        do {
            let outbox = outbox
            let progress = ProgressReporter(
                sessionId: key.sessionId, peerId: peerId, generation: key.generation, within: command.progressWithin
            ) { event in
                if !control.isStopped { outbox.add(event) }
            }
            let report = configuration.report
            let (results, update) = try await control.run {
                try await trainer.run(
                    command, peerId: peerId, ownerId: ownerId, credential: credential, control: control, progress: progress
                ) { heartbeat in
                    guard !control.isStopped else { return }
                    outbox.add(.heartbeat(heartbeat), isFollowed: heartbeat.epoch == command.plan.epochs)
                    report(.epoch(heartbeat, of: command.plan.epochs))
                }
            }
            let done = DoneEvent(
                sessionId: key.sessionId, peerId: peerId, generation: key.generation, round: key.round, attempt: key.attempt,
                results: results, update: update?.reference, updateData: update?.data)
            guard ledger.finish(key, answer: done) else { return }
            logger.info("done: \(key)", metadata: ["samples": "\(results.samples)", "seconds": "\(results.seconds)"])
            outbox.add(.done(done))
            configuration.report(.round(done))
        } catch {
            guard ledger.finish(key, answer: nil), !(error is CancellationError) else { return }
            let failure = RunFailure(error)
            if failure.isStale {
                logger.info("\(key) was not begun: \(failure.message)")
            } else {
                configuration.report(.failed(session: key.sessionId, message: failure.message))
                logger.error("\(key) failed: \(failure.message)")
            }
            outbox.add(
                .error(
                    ErrorEvent(
                        sessionId: key.sessionId, peerId: peerId, generation: key.generation, round: key.round,
                        message: failure.message, retryable: failure.retryable)))
        }
    }
}

/// Loading rows ahead of the work.
extension Peer {
    fileprivate func prepare(_ command: EnableCommand, _ control: RunControl, with trainer: Trainer) async {
        guard let ahead = command.prepare, !control.isStopped, let registered else { return }
        let peerId = registered.peerId
        let source = RowLoader.Source(sessionId: command.sessionId, peerId: peerId, credential: registered.credential)
        let outbox = outbox
        let progress = ProgressReporter(
            sessionId: command.sessionId, peerId: peerId, generation: command.generation, within: nil
        ) { event in
            if !control.isStopped { outbox.add(event) }
        }
        do {
            try await control.run { try await trainer.prepare(ahead, from: source, control: control, progress: progress) }
            ledger.finishLoading(sessionId: command.sessionId)
            // Stopped meanwhile, it would have thrown.
            outbox.add(.ready(ReadyEvent(sessionId: command.sessionId, peerId: peerId, generation: command.generation)))
        } catch is CancellationError {
            // Something else is wanted of it.
        } catch {
            ledger.finishLoading(sessionId: command.sessionId)
            let failure = RunFailure(error)
            configuration.report(.failed(session: command.sessionId, message: failure.message))
            logger.error("the rows of session \(command.sessionId) cannot be loaded: \(failure.message)")
            outbox.add(
                .error(
                    ErrorEvent(
                        sessionId: command.sessionId, peerId: peerId, generation: command.generation, round: 0, message: failure.message,
                        retryable: failure.retryable)))
        }
    }
}
