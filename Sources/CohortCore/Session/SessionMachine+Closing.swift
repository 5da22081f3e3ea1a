import FoundationEssentials

/// Rounds close, and the last one measures the model.
extension SessionMachine {
    /// Whether a round closes while others still train.
    public var isBuffered: Bool { strategy.bufferSize(session.settings, peers: 1) != nil }

    /// Those who were given work this round and have answered: also one that is gone since.
    var answered: [SessionPeer] { session.peers.filter { $0.answer?.round == session.round } }

    mutating func closeIfDue(_ now: Moment, _ step: inout Step) {
        guard let began = roundBegan else { return }
        // Who gives no sign of work is left out, in whatever phase.
        for index in session.peers.indices {
            let peer = session.peers[index]
            if peer.state == .locked, peer.isAlive, peer.hasWork {
                let since = lockedSince[peer.id] ?? now.seconds
                lockedSince[peer.id] = since
                if now.seconds - since >= rules.enableWait { loseUnanswering(peer.id, now, &step) }
            } else if peer.state == .training {
                let silence = watch.silence(of: peer.id, at: now.seconds)
                if silence >= watch.patience(speed: peer.speed) {
                    leaveOut(index, "it gave no sign of work for \(Int(min(silence, 1e9))) s", now, &step)
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
        guard !pending.isEmpty else { return answers == 0 ? reopen(now, &step) : close(now, &step) }
        if !isEvaluation, let size = strategy.bufferSize(session.settings, peers: session.peers.count(where: \.isAlive)), answers >= size {
            return close(now, &step)
        }
        sayWhatIsAwaited(pending, now, began)
        guard strategy.leavesOutLate, !isEvaluation,
            answers >= RoundDeadline.answersNeeded(of: answers + pending.count, minPeers: session.settings.minPeers)
        else { return }
        let quorum = Double(arrived) >= RoundDeadline.quorum * Double(arrived + due)
        guard let closesAt = deadline.closesAt(quorumAt: quorum ? lastAnswer : nil), now.seconds - began >= closesAt else { return }
        for index in pending { late(index, now, &step) }
        close(now, &step)
    }

    /// Says whom an open round waits for once that is more than a moment.
    private mutating func sayWhatIsAwaited(_ pending: [Int], _ now: Moment, _ began: Double) {
        let silent = pending.filter { watch.silence(of: session.peers[$0].id, at: now.seconds) >= min(10, rules.progressWait / 2) }
        guard !silent.isEmpty else { return wait(for: nil) }
        let what = isEvaluation ? "the measurement" : "the answer to round \(session.round + 1)"
        let patience = silent.map { watch.patience(speed: session.peers[$0].speed) }.max() ?? 0
        wait(
            for:
                "\(what) of \(silent.map { session.peers[$0].name }.bounded()): without a sign of work it is left out after \(Int(min(patience, 1e9))) s"
        )
    }

    private mutating func late(_ index: Int, _ now: Moment, _ step: inout Step) {
        let peer = session.peers[index]
        let reason = "too late in round \(session.round + 1)"
        session.peers[index].message = reason
        forget(peer.id)
        // It has never trained here: it is still loading, and gets rows once it has loaded.
        if peer.state == .training, peer.trainedSamples == 0, peer.epoch == 0 {
            session.peers[index].state = .loading
            watch.begin(peer.id, at: now.seconds)
            step.commands.append(.enable(peerId: peer.id, prepares: true))
            notify(
                .peer, "\(peer.name) was too late for round \(session.round + 1): it gets rows once it has loaded the data set", now, &step,
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
            now, &step, peer: peer)
    }

    /// A peer that loads the data set makes nobody wait, but must go on loading.
    mutating func leaveBehindLoaders(_ now: Moment, _ step: inout Step) {
        for index in session.peers.indices where session.peers[index].state == .loading {
            let silence = watch.silence(of: session.peers[index].id, at: now.seconds)
            guard silence >= watch.patience(speed: session.peers[index].speed) else { continue }
            let why = "it gave no sign of loading the data set for \(Int(min(silence, 1e9))) s"
            notify(.peer, "\(session.peers[index].name) is left out: \(why)", now, &step, peer: session.peers[index])
            giveUp(index, why, &step)
        }
    }

    /// Nobody is left who works on the round: it begins anew, as new attempts, so that answers to the earlier ones are fenced off.
    mutating func reopen(_ now: Moment, _ step: inout Step) {
        clearRound()
        session.roundStartedAt = nil
        roundBegan = nil
        change(true)
        notify(.round, "Round \(min(session.round + 1, session.settings.rounds)) begins anew", now, &step)
    }

    private mutating func close(_ now: Moment, _ step: inout Step) {
        wait(for: nil)
        if isEvaluation { return closeEvaluation(now, &step) }
        let scales = judgeNorms(now, &step)
        let answers = answered
        guard !answers.isEmpty else { return reopen(now, &step) }
        let needed = strategy.answersNeeded(session.settings)
        guard answers.count >= needed else {
            notify(.note, "\(answers.count) answers are too few for \(strategy.name), which needs \(needed)", now, &step)
            return reopen(now, &step)
        }
        isBusy = true
        var outcome = strategy.outcome(of: answers.map(strategyAnswer), session.settings)
        for index in outcome.shares.indices { outcome.shares[index].scale *= scales[outcome.shares[index].peerId] ?? 1 }
        limitStreams(in: &outcome, now, &step)
        step.objects.append(.aggregate(outcome))
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

    private mutating func closeEvaluation(_ now: Moment, _ step: inout Step) {
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
            return reopen(now, &step)
        }
        if counts.samples < dataset.validationRows {
            notify(
                .note, "the peers measured \(counts.samples) of \(dataset.validationRows) held-out rows: the metrics are of those", now,
                &step)
        }
        session.reported = said.samples > 0 ? said.metrics(dataset.task) : nil
        note(evaluation: counts, now, &step)
        conclude(weights, counts.metrics(dataset.task), &step)
    }

    mutating func concludeUnmeasured(_ weights: ObjectReference, _ now: Moment, _ step: inout Step) {
        let known = session.checkpoints.last?.validation
        notify(
            .note,
            "nobody is left to measure the model on all held-out rows: the metrics are \(known == nil ? "missing" : "of the last round")",
            now, &step)
        conclude(weights, known ?? Metrics(loss: nil, samples: 0), &step)
    }

    /// The global weights that the round began with, measured.
    mutating func note(evaluation counts: Counts, _ now: Moment, _ step: inout Step) {
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
            step.records.rounds.append(summary)
        }
        guard !isMeasured else { return }
        if let loss = metrics.loss, loss < session.best?.validation?.loss ?? .infinity { session.best = session.checkpoints[last] }
        step.records.points.append(
            MetricPoint(
                sessionId: session.id, peerId: nil, peerName: nil, round: session.checkpoints[last].round, epoch: 0, loss: metrics.loss,
                accuracy: metrics.accuracy, r2: metrics.r2, samplesPerSecond: nil, time: now.date))
    }
}
