import FoundationEssentials

/// Rounds close, and the last one measures the model.
extension SessionMachine {
    /// Whether a round closes while others still train.
    public var isBuffered: Bool { strategy.bufferSize(session.settings, peers: 1) != nil }

    /// Those who were given work this round and have answered: also one that is gone since.
    var answered: [SessionPeer] { session.peers.filter { $0.answer?.round == session.round } }

    mutating func closeIfDue(in turn: inout Turn) {
        guard let began = roundBeganAt else { return }
        // Who gives no sign of work is left out, in whatever phase.
        for index in session.peers.indices {
            let peer = session.peers[index]
            if peer.state == .locked, peer.isAlive, peer.hasWork {
                let since = lockedSince[peer.id] ?? turn.now.seconds
                lockedSince[peer.id] = since
                if turn.now.seconds - since >= rules.enableWait { loseUnanswering(peer.id, in: &turn) }
            } else if peer.state == .training {
                let silence = watch.silence(of: peer.id, at: turn.now.seconds)
                if silence >= watch.patience(speed: peer.speed) {
                    skipRound(index, reason: "it gave no sign of work for \(Int(min(silence, 1e9))) s", in: &turn)
                }
            }
        }
        var pending: [Int] = []
        var arrived = 0
        var due = 0
        var answers = 0
        var lastAnswer: Double?
        for (index, peer) in session.peers.enumerated() {
            if peer.answer?.round == session.round {
                answers += 1
                arrived += peer.rowCount
                if let seconds = peer.answer?.seconds { lastAnswer = max(lastAnswer ?? 0, seconds) }
            } else if peer.isAlive, peer.state == .training || peer.state == .locked && peer.hasWork {
                pending.append(index)
                due += peer.rowCount
            }
        }
        guard !pending.isEmpty else { return answers == 0 ? reopen(in: &turn) : close(in: &turn) }
        if !isEvaluation, let size = strategy.bufferSize(session.settings, peers: session.peers.count(where: \.isAlive)), answers >= size {
            return close(in: &turn)
        }
        updateWaitingFor(pending, at: turn.now)
        guard strategy.leavesOutLate, !isEvaluation,
            answers >= RoundDeadline.answersNeeded(of: answers + pending.count, minPeers: session.settings.minPeers)
        else { return }
        let quorum = Double(arrived) >= RoundDeadline.quorum * Double(arrived + due)
        guard let closesAt = deadline.closesAt(quorumAt: quorum ? lastAnswer : nil), turn.now.seconds - began >= closesAt else { return }
        for index in pending { markLate(index, in: &turn) }
        close(in: &turn)
    }

    /// Says whom an open round waits for once that is more than a moment.
    private mutating func updateWaitingFor(_ pending: [Int], at now: Moment) {
        let silent = pending.filter { watch.silence(of: session.peers[$0].id, at: now.seconds) >= min(10, rules.progressWait / 2) }
        guard !silent.isEmpty else { return wait(for: nil) }
        let what = isEvaluation ? "the measurement" : "the answer to round \(session.round + 1)"
        let patience = silent.map { watch.patience(speed: session.peers[$0].speed) }.max() ?? 0
        wait(
            for:
                "\(what) of \(silent.map { session.peers[$0].name }.bounded()): without a sign of work it is left out after \(Int(min(patience, 1e9))) s"
        )
    }

    private mutating func markLate(_ index: Int, in turn: inout Turn) {
        let peer = session.peers[index]
        let reason = "too late in round \(session.round + 1)"
        session.peers[index].message = reason
        forget(peer.id)
        // It has never trained here: it is still loading, and gets rows once it has loaded.
        if peer.state == .training, peer.trainedSamples == 0, peer.epoch == 0 {
            session.peers[index].state = .loading
            watch.begin(peer.id, at: turn.now.seconds)
            turn.send(.enable(peerId: peer.id, prepares: true))
            notify(
                .peer, "\(peer.name) was too late for round \(session.round + 1): it gets rows once it has loaded the data set", in: &turn,
                peer: peer)
            return
        }
        session.peers[index].state = peer.state == .locked ? .locked : .ready
        // Late again with more rows: it is as slow as it was taken for.
        session.peers[index].speedBeforeLate = peer.isRegaining == true ? nil : peer.speedBeforeLate ?? peer.speed
        session.peers[index].isRegaining = nil
        session.peers[index].speed = boundedSpeed(peer.speed / 2)
        session.peers[index].drift = nil
        // A lid that is closed is told of once, until the peer has answered again.
        guard noted.insert("late/\(peer.id)").inserted else { return }
        notify(
            .peer,
            "\(peer.name) was too late for round \(session.round + 1): its work is left out, and it gets a smaller share until it is faster",
            in: &turn, peer: peer)
    }

    /// A peer that loads the data set makes nobody wait, but must go on loading.
    mutating func excludeStalledLoaders(in turn: inout Turn) {
        for index in session.peers.indices where session.peers[index].state == .loading {
            let silence = watch.silence(of: session.peers[index].id, at: turn.now.seconds)
            guard silence >= watch.patience(speed: session.peers[index].speed) else { continue }
            let reason = "it gave no sign of loading the data set for \(Int(min(silence, 1e9))) s"
            notify(.peer, "\(session.peers[index].name) is left out: \(reason)", in: &turn, peer: session.peers[index])
            exclude(index, reason: reason, in: &turn)
        }
    }

    /// Nobody is left who works on the round: it begins anew, as new attempts, so that answers to the earlier ones are fenced off.
    mutating func reopen(in turn: inout Turn) {
        clearRound()
        session.roundStartedAt = nil
        roundBeganAt = nil
        change(.decision)
        notify(.round, "Round \(min(session.round + 1, session.settings.rounds)) begins anew", in: &turn)
    }

    private mutating func close(in turn: inout Turn) {
        wait(for: nil)
        if isEvaluation { return closeEvaluation(in: &turn) }
        let scales = judgeNorms(in: &turn)
        let answers = answered
        guard !answers.isEmpty else { return reopen(in: &turn) }
        let needed = strategy.answersNeeded(session.settings)
        guard answers.count >= needed else {
            notify(.note, "\(answers.count) answers are too few for \(strategy.name), which needs \(needed)", in: &turn)
            return reopen(in: &turn)
        }
        isBusy = true
        var outcome = strategy.outcome(of: answers.map(strategyAnswer), session.settings)
        for index in outcome.shares.indices { outcome.shares[index].scale *= scales[outcome.shares[index].peerId] ?? 1 }
        limitStreams(in: &outcome, in: &turn)
        turn.make(.aggregate(outcome))
    }

    private func strategyAnswer(_ peer: SessionPeer) -> StrategyAnswer {
        let results = peer.answer?.results
        let batch = max(1, session.settings.hyperparameters(of: peer).batchSize)
        let epochs = max(0, min(results?.epochs ?? 0, 1 << 20))
        // Of an epoch that was cut short.
        let rest = max(0, (results?.samples ?? 0) - epochs * peer.rowCount)
        return StrategyAnswer(
            peerId: peer.id, samples: max(0, results?.samples ?? 0),
            steps: epochs * ((peer.rowCount + batch - 1) / batch) + (rest + batch - 1) / batch,
            staleness: peer.answer?.workRound.map { session.round - $0 } ?? 0,
            ownEvaluation: peer.answer?.measured ?? results?.ownEvaluation)
    }

    // MARK: The last measurement

    private mutating func closeEvaluation(in turn: inout Turn) {
        guard let dataset = session.dataset, let weights = session.weights else { return }
        let said = answered.compactMap(\.answer?.results.evaluation).reduce(Counts(), +)
        // Measured here where every row was; else what the peers say, unless that was found wrong.
        let counts = answered.compactMap { peer -> Counts? in
            guard let answer = peer.answer else { return nil }
            let said = answer.results.evaluation
            guard let measured = answer.measured else { return said }
            let isWhole = measured.samples >= peer.validationRows?.count ?? 0
            return isWhole || said.map { measured.contradicts($0, session.model?.task ?? .classification) } ?? true ? measured : said
        }.reduce(Counts(), +)
        // A slice is missing: its peer died, or did not measure. The living share the whole out again, once or twice.
        if counts.samples < dataset.validationRows, evaluationTries < 2 {
            evaluationTries += 1
            return reopen(in: &turn)
        }
        if counts.samples < dataset.validationRows {
            notify(
                .note, "the peers measured \(counts.samples) of \(dataset.validationRows) held-out rows: the metrics are of those",
                in: &turn)
        }
        session.reported = said.samples > 0 ? said.metrics(dataset.task) : nil
        note(evaluation: counts, in: &turn)
        conclude(weights, metrics: counts.metrics(dataset.task), in: &turn)
    }

    mutating func concludeUnmeasured(_ weights: ObjectReference, in turn: inout Turn) {
        let known = session.checkpoints.last?.validation
        notify(
            .note,
            "nobody is left to measure the model on all held-out rows: the metrics are \(known == nil ? "missing" : "of the last round")",
            in: &turn)
        conclude(weights, metrics: known ?? Metrics(loss: nil, samples: 0), in: &turn)
    }

    /// The global weights that the round began with, measured.
    mutating func note(evaluation counts: Counts, in turn: inout Turn) {
        guard counts.samples > 0, let task = session.model?.task, let last = session.checkpoints.indices.last else { return }
        let metrics = counts.metrics(task)
        // What this process measured decides; the peers' word is shown where it is of more rows and of the same size.
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
        turn.record(
            MetricPoint(
                sessionId: session.id, peerId: nil, peerName: nil, round: session.checkpoints[last].round, epoch: 0, loss: metrics.loss,
                accuracy: metrics.accuracy, r2: metrics.r2, samplesPerSecond: nil, time: turn.now.date))
    }
}
