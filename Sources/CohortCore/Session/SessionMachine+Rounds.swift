import FoundationEssentials

extension SessionMachine {
    /// Begins, closes and ends what is due.
    mutating func advance(_ now: Date, _ actions: inout [Action]) {
        guard session.status == .running, !isBusy else { return }
        if session.roundStartedAt != nil { closeIfDue(now, &actions) }
        if session.status == .running, !isBusy, session.roundStartedAt == nil { beginIfPossible(now, &actions) }
    }

    private var isEvaluation: Bool { session.round >= session.settings.rounds }

    // MARK: Begin

    private mutating func beginIfPossible(_ now: Date, _ actions: inout [Action]) {
        let living = session.peers.filter(\.isAlive)
        if living.count < session.settings.minPeers || living.isEmpty { return waitForPeers(living.count, now, &actions) }
        if !awaited.isEmpty, let since = awaitedSince, now.timeIntervalSince(since) >= rules.enableWait {
            for id in awaited.sorted() {
                if let index = index(id), session.peers[index].isAlive {
                    session.peers[index].state = .lost
                    session.peers[index].message = "did not answer ENABLE"
                    actions.append(.free(peerId: id))
                    tell(.peer, "\(session.peers[index].name) did not answer in time", now, &actions, peer: session.peers[index])
                }
            }
            awaited = []
            awaitedSince = nil
            change(true)
            return beginIfPossible(now, &actions)
        }
        guard awaited.isEmpty else {
            let names = awaited.compactMap { id in index(id).map { session.peers[$0].name } }.sorted()
            return wait(
                for: "the answer of \(names.prefix(10).joined(separator: ", "))\(names.count > 10 ? " and \(names.count - 10) more" : "")")
        }
        let ready = session.peers.indices.filter {
            session.peers[$0].isAlive && (session.peers[$0].state == .ready || session.peers[$0].state == .done)
        }
        guard ready.count >= session.settings.minPeers else {
            return wait(for: "\(session.settings.minPeers - ready.count) more peers to be ready")
        }
        waitingSince = nil
        wait(for: nil)
        isEvaluation ? beginEvaluation(ready, now, &actions) : beginTraining(ready, now, &actions)
    }

    private mutating func waitForPeers(_ living: Int, _ now: Date, _ actions: inout [Action]) {
        let failures = session.peers.filter { $0.state == .failed }.compactMap { peer in peer.message.map { "\(peer.name): \($0)" } }
        if living == 0, !failures.isEmpty, failures.count == session.peers.count {
            return end(.failed, failures.joined(separator: "; "), now, &actions)
        }
        let since = waitingSince ?? now
        if waitingSince == nil {
            waitingSince = now
            let need = session.settings.minPeers - living
            wait(for: "\(need) more \(need == 1 ? "peer" : "peers"): \(living) of at least \(session.settings.minPeers) are there")
            tell(.status, "Waiting for \(session.waitingFor ?? "peers")", now, &actions)
        }
        if now.timeIntervalSince(since) >= rules.peerWait {
            let reasons =
                failures + session.peers.filter { $0.state == .lost }.map { "\($0.name) is lost\($0.message.map { " (\($0))" } ?? "")" }
            return end(
                .failed,
                "only \(living) of at least \(session.settings.minPeers) peers are left, and no other came within \(Int(rules.peerWait)) s: \(reasons.joined(separator: "; "))",
                now, &actions)
        }
        actions.append(.claim(session.settings.minPeers - living))
    }

    private mutating func wait(for what: String?) {
        guard session.waitingFor != what else { return }
        session.waitingFor = what
        change(false)
    }

    private mutating func beginTraining(_ ready: [Int], _ now: Date, _ actions: inout [Action]) {
        guard let schema = session.dataset?.schema else { return }
        let shares = strategy.deal(trainingRows: schema.trainingRows, round: session.round, peers: ready.map { session.peers[$0] })
        let slices = slices(schema.validationRows, among: ready.count)
        let takers = zip(ready, shares).filter { $0.1.contains { $0.count > 0 } }
        for (index, ranges) in takers {
            let peer = session.peers[index]
            let rows = ranges.reduce(0) { $0 + $1.count }
            let batch = session.settings.hyperparameters(peerId: peer.id, name: peer.name).batchSize
            guard batch <= rows else {
                return end(
                    .failed,
                    "batch_size \(batch) is larger than \(peer.name)'s share of \(rows) rows (\(schema.trainingRows) training rows among \(ready.count) peers): choose a smaller batch_size or fewer peers",
                    now, &actions)
            }
        }
        clearRound()
        for (position, (index, ranges)) in zip(ready, shares).enumerated() {
            session.peers[index].rows = ranges
            // Fresh weights of round 0 are nobody's to measure; an own model is measured on all.
            session.peers[index].validationRows =
                !strategy.synchronous ? RowRange(start: 0, end: schema.validationRows) : session.weights != nil ? slices[position] : nil
            if session.peers[index].validationRows?.count == 0 { session.peers[index].validationRows = nil }
            session.peers[index].state = ranges.contains { $0.count > 0 } ? .training : .ready
            if session.peers[index].state == .training { actions.append(.train(peerId: session.peers[index].id)) }
        }
        session.roundStartedAt = now
        change(true)
    }

    private mutating func beginEvaluation(_ ready: [Int], _ now: Date, _ actions: inout [Action]) {
        guard let schema = session.dataset?.schema, let weights = session.weights else { return }
        guard schema.validationRows > 0, strategy.synchronous else {
            return conclude(weights, session.checkpoints.last?.validation ?? Metrics(loss: nil, samples: 0), &actions)
        }
        clearRound()
        for (index, slice) in zip(ready, slices(schema.validationRows, among: ready.count)) {
            session.peers[index].validationRows = slice.count > 0 ? slice : nil
            session.peers[index].state = slice.count > 0 ? .training : .ready
            if slice.count > 0 { actions.append(.train(peerId: session.peers[index].id)) }
        }
        session.roundStartedAt = now
        change(true)
        tell(.status, "Measuring the model on \(schema.validationRows) held-out rows", now, &actions)
    }

    private func slices(_ rows: Int, among count: Int) -> [RowRange] {
        (0..<count).map { RowRange(start: rows * $0 / count, end: rows * ($0 + 1) / count) }
    }

    private mutating func clearRound() {
        retries = [:]
        session.answersFrom = session.generation
        for index in session.peers.indices {
            session.peers[index].rows = []
            session.peers[index].validationRows = nil
            session.peers[index].answer = nil
            session.peers[index].epoch = 0
            session.peers[index].progress = 0
        }
    }

    // MARK: Close

    /// Those who were given work this round and have answered: also one that is gone since.
    private var answered: [SessionPeer] { session.peers.filter { $0.answer?.round == session.round } }

    private mutating func closeIfDue(_ now: Date, _ actions: inout [Action]) {
        guard let begun = session.roundStartedAt else { return }
        let pending = session.peers.filter {
            $0.isAlive && ($0.state == .training || $0.state == .locked && ($0.rows.count > 0 || $0.validationRows != nil))
        }
        let answers = answered
        guard !pending.isEmpty else {
            return answers.isEmpty ? reopen(now, &actions) : close(now, &actions)
        }
        guard strategy.synchronous, !isEvaluation, answers.count >= session.settings.minPeers else { return }
        func work(_ peers: [SessionPeer]) -> Int { peers.reduce(0) { $0 + $1.rows.reduce(0) { $0 + $1.count } } }
        let arrived = work(answers)
        let quorum = Double(arrived) >= RoundDeadline.quorum * Double(arrived + work(pending))
        let quorumAt = quorum ? answers.compactMap { $0.answer?.answeredAt.timeIntervalSince(begun) }.max() : nil
        guard let closesAt = deadline.closesAt(quorumAt: quorumAt), now.timeIntervalSince(begun) >= closesAt else { return }
        for peer in pending {
            guard let index = index(peer.id) else { continue }
            session.peers[index].speed /= 2
            session.peers[index].state = .ready
            session.peers[index].message = "too late in round \(session.round + 1)"
            tell(
                .peer,
                "\(peer.name) was too late for round \(session.round + 1): its work is left out, and it gets half its share from now on",
                now, &actions, peer: peer)
        }
        close(now, &actions)
    }

    /// Nobody is left who works on the round: it begins anew, and answers to the first attempt are fenced off.
    private mutating func reopen(_ now: Date, _ actions: inout [Action]) {
        clearRound()
        session.roundStartedAt = nil
        change(true)
        actions.append(.raiseGeneration)
        tell(.round, "Round \(session.round + 1) begins anew", now, &actions)
    }

    private mutating func close(_ now: Date, _ actions: inout [Action]) {
        if isEvaluation { return closeEvaluation(now, &actions) }
        isBusy = true
        let answers = answered
        actions.append(
            .aggregate(
                strategy.outcome(
                    of: answers.map { peer in
                        StrategyAnswer(
                            peerId: peer.id, samples: peer.answer?.results.samples ?? 0, ownEvaluation: peer.answer?.results.ownEvaluation)
                    }, task: session.model?.task ?? .classification)))
    }

    private mutating func closeEvaluation(_ now: Date, _ actions: inout [Action]) {
        guard let schema = session.dataset?.schema, let weights = session.weights else { return }
        let counts = answered.compactMap(\.answer?.results.evaluation).reduce(Counts(), +)
        // A slice is missing: its peer died. The living share the whole out again.
        guard counts.samples == schema.validationRows else {
            evaluationTries += 1
            guard evaluationTries < 5 else {
                return end(
                    .failed, "the model could not be measured: peers reported \(counts.samples) of \(schema.validationRows) held-out rows",
                    now, &actions)
            }
            return reopen(now, &actions)
        }
        note(evaluation: counts, now, &actions)
        conclude(weights, counts.metrics(schema.task), &actions)
    }

    /// The global weights that the round began with, measured.
    private mutating func note(evaluation counts: Counts, _ now: Date, _ actions: inout [Action]) {
        guard counts.samples > 0, let task = session.model?.task, let last = session.checkpoints.indices.last else { return }
        let metrics = counts.metrics(task)
        session.checkpoints[last].validation = metrics
        if var summary = session.lastRound, summary.round == session.checkpoints[last].round {
            summary.validation = metrics
            session.lastRound = summary
            actions.append(.summarize(summary))
        }
        if let loss = metrics.loss, loss < session.best?.validation?.loss ?? .infinity { session.best = session.checkpoints[last] }
        actions.append(
            .record([
                MetricPoint(
                    sessionId: session.id, peerId: nil, peerName: nil, round: session.checkpoints[last].round, epoch: 0, loss: metrics.loss,
                    accuracy: metrics.accuracy, r2: metrics.r2, samplesPerSecond: nil, time: now)
            ]))
    }

    // MARK: What the shell reports back

    mutating func aggregated(_ weights: ObjectReference, _ now: Date, _ actions: inout [Action]) {
        guard isBusy, session.status == .running, let begun = session.roundStartedAt, let task = session.model?.task else { return }
        isBusy = false
        let answers = answered
        note(evaluation: answers.compactMap(\.answer?.results.evaluation).reduce(Counts(), +), now, &actions)
        for peer in answers {
            for range in peer.rows { session.ledger?.add(range, epochs: peer.answer?.results.epochs ?? 0) }
        }
        var checkpoint = Checkpoint(round: session.round, weights: weights)
        if !strategy.synchronous { checkpoint.validation = ownMetrics(answers, task) }
        session.checkpoints.append(checkpoint)
        session.weights = weights
        discardOld(&actions)
        let dropped = session.peers.filter { !($0.rows.isEmpty) && $0.answer?.round != session.round }
        let summary = RoundSummary(
            round: session.round, seconds: now.timeIntervalSince(begun), training: trainingMetrics(answers),
            validation: checkpoint.validation, answered: answers.map(\.name),
            dropped: Dictionary(dropped.map { ($0.name, $0.message ?? "too late") }, uniquingKeysWith: { first, _ in first }))
        session.lastRound = summary
        actions.append(.summarize(summary))
        finishRound(now, &actions)
    }

    /// The newest five checkpoints and the best are kept.
    private mutating func discardOld(_ actions: inout [Action]) {
        var discarded = session.peers.compactMap { $0.answer?.update?.key }
        while session.checkpoints.count > 5 {
            let key = session.checkpoints.removeFirst().weights.key
            if key != session.best?.weights.key { discarded.append(key) }
        }
        if let best = outdatedBest, best != session.best?.weights.key, !session.checkpoints.contains(where: { $0.weights.key == best }) {
            discarded.append(best)
        }
        outdatedBest = session.best?.weights.key
        actions.append(.discard(discarded))
    }

    private mutating func finishRound(_ now: Date, _ actions: inout [Action]) {
        let closed = session.round
        session.round += 1
        session.roundStartedAt = nil
        for index in session.peers.indices {
            if session.peers[index].state == .done { session.peers[index].state = .ready }
            session.peers[index].progress = 0
        }
        change(true)
        let training = session.lastRound?.training
        var notice = SessionNotice(
            sessionId: session.id, kind: .round, time: now, message: "Round \(closed + 1) of \(session.settings.rounds) is done")
        notice.loss = training?.loss
        notice.accuracy = training?.accuracy
        tell(notice, &actions)
        if let patience = session.settings.earlyStopping, strategy.synchronous, let best = session.best, closed - 1 - best.round >= patience
        {
            tell(
                .note, "No better validation loss for \(patience) rounds: stopping with the weights of round \(best.round + 1)", now,
                &actions)
            return conclude(best.weights, best.validation ?? Metrics(loss: nil, samples: 0), &actions)
        }
        let living = session.peers.count(where: \.isAlive)
        if living < session.settings.peers, !isEvaluation { actions.append(.claim(session.settings.peers - living)) }
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

    /// Of the answer with the lowest own validation loss.
    private func ownMetrics(_ answers: [SessionPeer], _ task: LearningTask) -> Metrics? {
        answers.compactMap(\.answer?.results.ownEvaluation).min { ($0.loss ?? .infinity) < ($1.loss ?? .infinity) }?.metrics(task)
    }

    private mutating func conclude(_ weights: ObjectReference, _ metrics: Metrics, _ actions: inout [Action]) {
        isBusy = true
        session.waitingFor = nil
        change(true)
        actions.append(.conclude(weights, metrics))
    }

    mutating func concluded(_ object: ObjectReference, _ metrics: Metrics, _ now: Date, _ actions: inout [Action]) {
        guard session.status == .running, let task = session.model?.task else { return }
        session.modelObject = object
        let independent = !strategy.synchronous
        func ownLoss(_ peer: SessionPeer) -> Double { peer.answer?.results.ownEvaluation?.loss ?? .infinity }
        let best = independent ? session.peers.filter { $0.answer != nil }.min { ownLoss($0) < ownLoss($1) } : nil
        session.results = SessionResults(
            metrics: metrics,
            peers: session.peers.map { peer in
                let own = independent ? peer.answer?.results.ownEvaluation?.metrics(task) : nil
                return PeerResult(
                    id: peer.id, name: peer.name, engine: peer.engine, device: peer.device, state: peer.state,
                    metrics: own ?? Metrics(loss: peer.loss, accuracy: peer.accuracy, samples: peer.trainedSamples),
                    samplesPerSecond: peer.samplesPerSecond, trainedSamples: peer.trainedSamples, message: peer.message)
            }, rounds: min(session.round, session.settings.rounds), seconds: now.timeIntervalSince(session.startedAt ?? session.createdAt),
            rows: session.ledger?.use, bestPeer: best?.name)
        end(.completed, nil, now, &actions)
    }

    mutating func end(_ status: SessionStatus, _ why: String?, _ now: Date, _ actions: inout [Action]) {
        session.status = status
        session.error = why
        session.waitingFor = nil
        session.endedAt = now
        change(true)
        let words =
            switch status {
            case .completed: "Training completed"
            case .cancelled: "Training cancelled"
            default: "Training failed: \(why ?? "")"
            }
        let reason: StopCommand.Reason = status == .completed ? .completed : status == .cancelled ? .cancelled : .failed
        actions.append(.stop(peerIds: session.peers.filter(\.isAlive).map(\.id), reason))
        actions.append(.end)
        tell(.status, words, now, &actions)
    }
}
