import CohortCore
import CohortWire
import FoundationEssentials

/// A round's answers become the next round's weights.
extension SessionMachine {
    mutating func aggregated(
        weights: ObjectReference, measured: Counts?, outer: OuterState?, contributions: [Contribution], outcome: RoundOutcome?,
        in turn: inout Turn
    ) {
        guard session.status == .running, case .aggregating(let began) = phase, let task = session.model?.task else { return }
        let answers = answered
        // A late answer measured older weights.
        let evaluations = answers.compactMap { $0.answer?.workRound == nil ? $0.answer?.results.evaluation : nil }
        record(evaluation: evaluations.reduce(Counts(), +), in: &turn)
        for index in session.peers.indices where session.peers[index].answer?.round == session.round {
            session.peers[index].countedRound = session.peers[index].answer?.workRound ?? session.round
            session.peers[index].strikes = nil
        }
        for peer in answers {
            for range in peer.rows { session.ledger?.add(range, epochs: peer.answer?.results.epochs ?? 0) }
        }
        var checkpoint = Checkpoint(round: session.round, weights: weights)
        checkpoint.validation = measured?.metrics(task) ?? (strategy.trainsOwnModels ? ownMetrics(answers, task) : nil)
        checkpoint.isMeasured = measured == nil ? nil : true
        session.checkpoints.append(checkpoint)
        if !strategy.trainsOwnModels, let measured {
            if let loss = measured.loss, loss < session.best?.validation?.loss ?? .infinity { session.best = checkpoint }
            turn.record(globalPoint(round: session.round, checkpoint.validation, at: turn.now))
        }
        session.weights = weights
        if let outer, let rate = outer.learningRate, session.outer == nil, session.settings.serverLr == nil, outer.tau != nil {
            notify(.note, Notices.serverSteps(outer, rate: rate), in: &turn)
        }
        session.outer = outer
        session.optimizerSteps = session.updateLayout?.streams.isEmpty ?? true ? nil : optimizerSteps(of: answers)
        if strategy.dealsBySpeed { SpeedModel.correct(&session.peers, answered: answers.compactMap { index($0.id) }) }
        discardOldObjects(in: &turn)
        let dropped = session.peers.filter {
            !$0.rows.isEmpty && $0.answer?.round != session.round && !(isBuffered && $0.state == .training)
        }
        var summary = RoundSummary(
            round: session.round, seconds: turn.now.seconds - began, training: trainingMetrics(answers),
            validation: checkpoint.validation, answered: answers.map(\.name),
            dropped: Dictionary(dropped.map { ($0.name, $0.message ?? "too late") }, uniquingKeysWith: { first, _ in first }))
        summary.contributions = contributions.isEmpty ? nil : contributions
        summary.outcome = outcome
        summary.weightsSha256 = weights.sha256
        closedRound = summary
        session.lastRound = summary.short
        turn.record(summary)
        finishRound(in: &turn)
    }

    /// An update is no longer the accepted one: the round closes without it.
    mutating func aggregationFailed(peerId: String, reason: String, in turn: inout Turn) {
        guard session.status == .running, case .aggregating(let since) = phase, let index = index(peerId) else { return }
        phase = .collecting(since: since)
        session.peers[index].answer = nil
        change(.decision)
        if session.peers[index].isAlive { skipRound(index, reason: reason, in: &turn) }
    }

    private mutating func finishRound(in turn: inout Turn) {
        let closed = session.round
        session.round += 1
        session.roundStartedAt = nil
        phase = .betweenRounds
        for index in session.peers.indices {
            session.peers[index].endRound(closed, keepsWorking: isBuffered)
            // Work that goes on counts while there is a round for it.
            if isBuffered, isEvaluation, session.peers[index].state == .training {
                session.peers[index].stopWork()
                roster.forget(session.peers[index].id)
            }
        }
        change(.decision)
        notify(roundNotice(closed, at: turn.now), in: &turn)
        if concludeEarly(after: closed, in: &turn) { return }
        let available = session.peers.count(where: \.isAlive)
        if available < session.settings.peers, !isEvaluation { turn.perform(.claim(session.settings.peers - available)) }
    }

    private func roundNotice(_ closed: Int, at now: Moment) -> SessionNotice {
        var notice = SessionNotice(
            sessionId: session.id, kind: .round, time: now.date, message: Notices.roundDone(closed, of: session.settings.rounds))
        notice.round = closed
        notice.loss = session.lastRound?.training?.loss
        notice.accuracy = session.lastRound?.training?.accuracy
        // Where the server measured these weights; else peers measure them in the next round.
        if let validation = session.checkpoints.last(where: { $0.round == closed })?.validation {
            notice.validationLoss = validation.loss
            notice.validationAccuracy = validation.accuracy
            notice.validationR2 = validation.r2
            if let std = session.dataset?.targetStd, let loss = validation.loss { notice.validationRmse = loss.squareRoot() * std }
        }
        return notice
    }

    /// Concludes where early stopping or the server's limit ends the session.
    /// - Returns: whether it concludes now; at the limit without a best model, the measurement of the current one follows instead.
    private mutating func concludeEarly(after closed: Int, in turn: inout Turn) -> Bool {
        let best = strategy.trainsOwnModels ? nil : session.best
        if let patience = session.settings.earlyStopping, let best,
            (session.checkpoints.last?.isMeasured == true ? closed : closed - 1) - best.round >= patience
        {
            notify(.note, Notices.stopsEarly(after: patience, best: best.round), in: &turn)
            conclude(best.weights, metrics: best.validation ?? Metrics(loss: nil, samples: 0), in: &turn)
            return true
        }
        guard runTime(at: turn.now) >= rules.maxRunTime, !isEvaluation else { return false }
        notify(.note, Notices.runLimitEnds(rules.maxRunTime, afterRound: closed, of: session.settings.rounds), in: &turn)
        if let best {
            conclude(best.weights, metrics: best.validation ?? Metrics(loss: nil, samples: 0), in: &turn)
            return true
        }
        session.settings.rounds = session.round
        change(.decision)
        return false
    }

    /// Discards the round's updates and all checkpoints but the newest five and the best.
    private mutating func discardOldObjects(in turn: inout Turn) {
        var discarded = session.settings.keepUpdates == true ? [] : session.peers.compactMap { $0.answer?.update?.key }
        while session.checkpoints.count > 5 {
            let key = session.checkpoints.removeFirst().weights.key
            if key != session.best?.weights.key { discarded.append(key) }
        }
        if let best = outdatedBest, best != session.best?.weights.key, !session.checkpoints.contains(where: { $0.weights.key == best }) {
            discarded.append(best)
        }
        outdatedBest = session.best?.weights.key
        turn.discard(discarded)
    }

    // MARK: Metrics

    /// Records the measurement of the global weights that the round began with.
    mutating func record(evaluation counts: Counts, in turn: inout Turn) {
        guard counts.samples > 0, let task = session.model?.task, let last = session.checkpoints.indices.last else { return }
        let metrics = counts.metrics(task)
        // The server's own measurement decides; the peers' is shown where it covers more rows and has a similar value.
        let isMeasured = session.checkpoints[last].isMeasured == true && !isEvaluation
        if isMeasured {
            guard let measured = session.checkpoints[last].validation, counts.samples > measured.samples, let ours = measured.loss,
                let theirs = metrics.loss, theirs > ours / 3 - 0.01, theirs < ours * 3 + 0.01
            else { return }
        }
        session.checkpoints[last].validation = metrics
        if var summary = closedRound ?? session.lastRound, summary.round == session.checkpoints[last].round {
            summary.validation = metrics
            closedRound = summary
            session.lastRound = summary.short
            turn.record(summary)
        }
        guard !isMeasured else { return }
        if let loss = metrics.loss, loss < session.best?.validation?.loss ?? .infinity { session.best = session.checkpoints[last] }
        turn.record(globalPoint(round: session.checkpoints[last].round, metrics, at: turn.now))
    }

    /// A point of the global model's curve.
    private func globalPoint(round: Int, _ metrics: Metrics?, at now: Moment) -> MetricPoint {
        MetricPoint(
            sessionId: session.id, peerId: nil, peerName: nil, round: round, epoch: 0, loss: metrics?.loss, accuracy: metrics?.accuracy,
            r2: metrics?.r2, samplesPerSecond: nil, time: now.date)
    }

    private func trainingMetrics(_ answers: [SessionPeer]) -> Metrics {
        var samples = 0
        var loss = 0.0
        var accuracy = 0.0
        for results in answers.compactMap(\.answer?.results) {
            samples += results.samples
            loss += (results.loss ?? 0) * Double(results.samples)
            accuracy += (results.accuracy ?? 0) * Double(results.samples)
        }
        guard samples > 0 else { return Metrics(loss: nil, samples: 0) }
        return Metrics(
            loss: loss / Double(samples), accuracy: session.model?.task == .classification ? accuracy / Double(samples) : nil,
            samples: samples)
    }

    /// The metrics of the answer with the lowest own validation loss.
    private func ownMetrics(_ answers: [SessionPeer], _ task: LearningTask) -> Metrics? {
        answers.compactMap { $0.answer?.measured ?? $0.answer?.results.ownEvaluation }
            .min { ($0.loss ?? .infinity) < ($1.loss ?? .infinity) }?.metrics(task)
    }

    /// The optimizer steps so far: the mean over the answers, weighted by samples as the weights are.
    private func optimizerSteps(of answers: [SessionPeer]) -> Int? {
        let known = answers.compactMap { peer in
            peer.answer.flatMap { answer in
                answer.results.optimizerSteps.map { (steps: Double($0), samples: Double(max(0, answer.results.samples))) }
            }
        }
        let samples = known.reduce(0) { $0 + $1.samples }
        guard samples > 0 else { return session.optimizerSteps }
        return max(1, Int(min(known.reduce(0) { $0 + $1.steps * $1.samples } / samples, 0x1p52)))
    }
}
