import CohortCore
import CohortWire
import FoundationEssentials

/// The final measurement, the model file and the end.
extension SessionMachine {
    mutating func closeEvaluation(in turn: inout Turn) {
        guard let dataset = session.dataset, let weights = session.weights else { return }
        let reported = answered.compactMap(\.answer?.results.evaluation).reduce(Counts(), +)
        // The server's measurement of a whole slice, else the peer's, unless the server's contradicts it.
        let counts = answered.compactMap { peer -> Counts? in
            guard let answer = peer.answer else { return nil }
            let reported = answer.results.evaluation
            guard let measured = answer.measured else { return reported }
            let isWhole = measured.samples >= peer.validationRows?.count ?? 0
            return isWhole || reported.map { measured.contradicts($0, session.model?.task ?? .classification) } ?? true
                ? measured : reported
        }.reduce(Counts(), +)
        // A slice is missing because its peer is gone: the others measure all rows again, at most twice.
        if counts.samples < dataset.validationRows, evaluationTries < 2 {
            evaluationTries += 1
            return reopen(in: &turn)
        }
        if counts.samples < dataset.validationRows {
            notify(.note, Notices.partlyMeasured(counts.samples, of: dataset.validationRows), in: &turn)
        }
        session.reported = reported.samples > 0 ? reported.metrics(dataset.task) : nil
        record(evaluation: counts, in: &turn)
        conclude(weights, metrics: counts.metrics(dataset.task), in: &turn)
    }

    mutating func concludeUnmeasured(_ weights: ObjectReference, in turn: inout Turn) {
        let known = session.checkpoints.last?.validation
        notify(.note, Notices.unmeasured(hasMetrics: known != nil), in: &turn)
        conclude(weights, metrics: known ?? Metrics(loss: nil, samples: 0), in: &turn)
    }

    mutating func conclude(_ weights: ObjectReference, metrics: Metrics, in turn: inout Turn) {
        phase = .concluding
        session.waitingFor = nil
        change(.decision)
        turn.make(.conclude(weights: weights, metrics: metrics))
    }

    mutating func concluded(model object: ObjectReference, metrics: Metrics, evaluation: Evaluation?, in turn: inout Turn) {
        guard session.status == .running, let task = session.model?.task else { return }
        session.modelObject = object
        let hasOwn = strategy.trainsOwnModels
        func own(_ peer: SessionPeer) -> Counts? { peer.answer?.measured ?? peer.answer?.results.ownEvaluation }
        func ownLoss(_ peer: SessionPeer) -> Double { own(peer)?.loss ?? .infinity }
        let best = hasOwn ? session.peers.filter { $0.answer != nil }.min { ownLoss($0) < ownLoss($1) } : nil
        session.results = SessionResults(
            metrics: metrics,
            peers: session.peers.map { peer in
                let own = hasOwn ? own(peer)?.metrics(task) : nil
                return PeerResult(
                    id: peer.id, name: peer.name, engine: peer.engine, device: peer.device, state: peer.state,
                    metrics: own ?? Metrics(loss: peer.loss, accuracy: peer.accuracy, samples: peer.trainedSamples),
                    samplesPerSecond: peer.samplesPerSecond, trainedSamples: peer.trainedSamples, message: peer.message,
                    workedSeconds: peer.workedSeconds, sentBytes: peer.sentBytes, receivedRows: peer.dealt?.count)
            }, rounds: min(session.round, session.settings.rounds),
            seconds: max(0, turn.now.date.timeIntervalSince(session.startedAt ?? session.createdAt)),
            rows: session.ledger?.use, bestPeer: best?.name,
            reported: hasOwn ? best?.answer?.results.ownEvaluation?.metrics(task) : session.reported,
            evaluation: evaluation)
        end(.completed, in: &turn)
    }

    /// Sets the final status. The coordinator stops and frees the peers and removes what is left, and repeats that until it is done.
    mutating func end(_ status: SessionStatus, reason: String? = nil, in turn: inout Turn) {
        session.status = status
        session.error = reason
        session.waitingFor = nil
        session.endedAt = turn.now.date
        session.isStarting = nil
        session.isEnding = true
        change(.decision)
        notify(.status, Notices.ended(status, reason: reason), in: &turn)
    }
}
