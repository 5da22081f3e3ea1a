import FoundationEssentials

/// From a round's answers to the next round's weights, and from the last ones to the model.
extension SessionMachine {
    /// Past so many times the median an update is clipped to it, unless the settings refuse it before.
    static let clipRatio = 10.0

    /// Holds the answers' norms against the median: of the round when three or more answered, else of those before.
    /// - Returns: how far each update that is too long is shortened, by peer.
    mutating func judgeNorms(_ now: Moment, _ step: inout Step) -> [String: Double] {
        guard strategy.synchronous else { return [:] }
        let norms = answered.compactMap(\.answer?.norm)
        let known = norms.count >= 3 ? norms : session.updateNorms.count >= 5 ? session.updateNorms : []
        var scales: [String: Double] = [:]
        if !known.isEmpty {
            let median = known.sorted()[known.count / 2]
            for index in session.peers.indices {
                guard median > 0, let answer = session.peers[index].answer, answer.round == session.round, let norm = answer.norm else {
                    continue
                }
                let ratio = norm / median
                let peer = session.peers[index]
                let times = ratio >= 10 ? "\(Int(min(ratio, 1e9)))" : "\((ratio * 10).rounded() / 10)"
                let words = "\(peer.name)'s update is \(times) times as long as the median"
                if let limit = session.settings.maxNormRatio, ratio > limit {
                    session.peers[index].answer = nil
                    session.peers[index].trainedSamples = max(0, peer.trainedSamples - max(0, answer.results.samples))
                    let why = "\(words); max_norm_ratio is \(limit)"
                    step.commands.append(.refused(peerId: peer.id, round: session.round, attempt: peer.attempt ?? 0, why: why))
                    if peer.isAlive { leaveOut(index, why, now, &step) }
                } else if ratio > Self.clipRatio {
                    scales[peer.id] = Self.clipRatio / ratio
                    notify(.note, "\(words): it is shortened to \(Int(Self.clipRatio)) times", now, &step, peer: peer)
                } else if ratio > 3 {
                    notify(.note, words, now, &step, peer: peer)
                }
            }
        }
        session.updateNorms += answered.compactMap(\.answer?.norm)
        if session.updateNorms.count > 64 { session.updateNorms.removeFirst(session.updateNorms.count - 64) }
        return scales
    }

    mutating func aggregated(_ weights: ObjectReference, _ measured: Counts?, _ now: Moment, _ step: inout Step) {
        guard isBusy, session.status == .running, let began = roundBegan, let task = session.model?.task else { return }
        isBusy = false
        let answers = answered
        note(evaluation: answers.compactMap(\.answer?.results.evaluation).reduce(Counts(), +), now, &step)
        for peer in answers {
            for range in peer.rows { session.ledger?.add(range, epochs: peer.answer?.results.epochs ?? 0) }
        }
        var checkpoint = Checkpoint(round: session.round, weights: weights)
        checkpoint.validation = measured?.metrics(task) ?? (strategy.synchronous ? nil : ownMetrics(answers, task))
        checkpoint.isMeasured = measured == nil ? nil : true
        session.checkpoints.append(checkpoint)
        if strategy.synchronous, let measured {
            if let loss = measured.loss, loss < session.best?.validation?.loss ?? .infinity { session.best = checkpoint }
            step.records.points.append(
                MetricPoint(
                    sessionId: session.id, peerId: nil, peerName: nil, round: session.round, epoch: 0, loss: checkpoint.validation?.loss,
                    accuracy: checkpoint.validation?.accuracy, r2: checkpoint.validation?.r2, samplesPerSecond: nil, time: now.date))
        }
        session.weights = weights
        if strategy.synchronous { correctSpeeds(answers) }
        discardOld(&step)
        let dropped = session.peers.filter { !$0.rows.isEmpty && $0.answer?.round != session.round }
        let summary = RoundSummary(
            round: session.round, seconds: now.seconds - began, training: trainingMetrics(answers),
            validation: checkpoint.validation, answered: answers.map(\.name),
            dropped: Dictionary(dropped.map { ($0.name, $0.message ?? "too late") }, uniquingKeysWith: { first, _ in first }))
        session.lastRound = summary
        step.records.rounds.append(summary)
        finishRound(now, &step)
    }

    /// The update is not what was accepted any more: the round closes without it.
    mutating func aggregationFailed(_ peerId: String, _ why: String, _ now: Moment, _ step: inout Step) {
        guard isBusy, session.status == .running, let index = index(peerId) else { return }
        isBusy = false
        session.peers[index].answer = nil
        change(true)
        if session.peers[index].isAlive { leaveOut(index, why, now, &step) }
    }

    // MARK: Speed

    /// A peer's speed stays within these of the median of the living.
    private static let (slowest, fastest) = (1.0 / 64, 64.0)
    /// Seconds; training shorter than this says nothing of a machine.
    private static let measurable = 0.25

    func boundedSpeed(_ speed: Double) -> Double {
        let speeds = session.peers.filter(\.isAlive).map(\.speed).sorted()
        guard !speeds.isEmpty else { return speed }
        let median = speeds[speeds.count / 2]
        return min(max(speed, median * Self.slowest), median * Self.fastest)
    }

    /// Holds what the answers show against the speed classes; a class moves, up or down, when it is off by about an octave for good. Short rounds
    /// measure nothing, so that a small session can be repeated bit by bit.
    private mutating func correctSpeeds(_ answers: [SessionPeer]) {
        let measured = answers.compactMap { peer -> (id: String, ratio: Double)? in
            guard let results = peer.answer?.results, results.seconds >= Self.measurable, let rate = results.rate, peer.speed > 0 else {
                return nil
            }
            return (peer.id, rate / peer.speed)
        }
        guard measured.count >= 2 else { return }
        let ratios = measured.map(\.ratio).sorted()
        let middle = ratios[ratios.count / 2]
        guard middle > 0 else { return }
        for (id, ratio) in measured {
            guard let index = index(id) else { continue }
            let octaves = octaves(ratio / middle)
            let drift = session.peers[index].drift.map { 0.6 * $0 + 0.4 * octaves } ?? octaves
            session.peers[index].drift = drift
            guard abs(drift) >= 0.9 else { continue }
            session.peers[index].speed = boundedSpeed(SessionPeer.speedClass(of: session.peers[index].speed * power(drift)))
            session.peers[index].drift = nil
        }
    }

    /// log2, within ±10.
    private func octaves(_ ratio: Double) -> Double {
        guard ratio > 0x1p-10 else { return -10 }
        guard ratio < 0x1p10 else { return 10 }
        // log2(m · 2^e), the mantissa's part by a few steps of squaring: no math library is needed here.
        var fraction = 0.0
        var mantissa = ratio.significand
        var bit = 0.5
        for _ in 0..<20 {
            mantissa *= mantissa
            if mantissa >= 2 {
                mantissa /= 2
                fraction += bit
            }
            bit /= 2
        }
        return Double(ratio.exponent) + fraction
    }

    /// 2^octaves, to a half octave.
    private func power(_ octaves: Double) -> Double {
        let halves = Int((min(max(octaves, -10), 10) * 2).rounded())
        let whole = Double(sign: .plus, exponent: halves >> 1, significand: 1)
        return halves & 1 == 1 ? whole * 2.0.squareRoot() : whole
    }

    // MARK: After a round

    /// The newest five checkpoints and the best are kept.
    private mutating func discardOld(_ step: inout Step) {
        var discarded = session.peers.compactMap { $0.answer?.update?.key }
        while session.checkpoints.count > 5 {
            let key = session.checkpoints.removeFirst().weights.key
            if key != session.best?.weights.key { discarded.append(key) }
        }
        if let best = outdatedBest, best != session.best?.weights.key, !session.checkpoints.contains(where: { $0.weights.key == best }) {
            discarded.append(best)
        }
        outdatedBest = session.best?.weights.key
        step.discarded += discarded
    }

    private mutating func finishRound(_ now: Moment, _ step: inout Step) {
        let closed = session.round
        session.round += 1
        session.roundStartedAt = nil
        roundBegan = nil
        for index in session.peers.indices {
            if session.peers[index].state == .done { session.peers[index].state = .ready }
            session.peers[index].progress = 0
        }
        change(true)
        let training = session.lastRound?.training
        var notice = SessionNotice(
            sessionId: session.id, kind: .round, time: now.date, message: "Round \(closed + 1) of \(session.settings.rounds) is done")
        // The one that is done, not the one that follows: from 0, as everywhere.
        notice.round = closed
        notice.loss = training?.loss
        notice.accuracy = training?.accuracy
        // Of these weights where this process measured them; else peers measure them in the next round.
        if let validation = session.checkpoints.last(where: { $0.round == closed })?.validation {
            notice.validationLoss = validation.loss
            notice.validationAccuracy = validation.accuracy
            notice.validationR2 = validation.r2
            if let std = session.dataset?.targetStd, let loss = validation.loss { notice.validationRmse = loss.squareRoot() * std }
        }
        notify(notice, &step)
        if let patience = session.settings.earlyStopping, strategy.synchronous, let best = session.best,
            (session.checkpoints.last?.isMeasured == true ? closed : closed - 1) - best.round >= patience
        {
            notify(
                .note, "No better validation loss for \(patience) rounds: stopping with the weights of round \(best.round + 1)", now,
                &step)
            return conclude(best.weights, best.validation ?? Metrics(loss: nil, samples: 0), &step)
        }
        let living = session.peers.count(where: \.isAlive)
        if living < session.settings.peers, !isEvaluation { step.effects.append(.claim(session.settings.peers - living)) }
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
        answers.compactMap { $0.answer?.measured ?? $0.answer?.results.ownEvaluation }
            .min { ($0.loss ?? .infinity) < ($1.loss ?? .infinity) }?.metrics(task)
    }

    mutating func conclude(_ weights: ObjectReference, _ metrics: Metrics, _ step: inout Step) {
        isBusy = true
        session.waitingFor = nil
        change(true)
        step.objects.append(.conclude(weights, metrics))
    }

    mutating func concluded(
        _ object: ObjectReference, _ metrics: Metrics, _ evaluation: Evaluation?, _ now: Moment, _ step: inout Step
    ) {
        guard session.status == .running, let task = session.model?.task else { return }
        session.modelObject = object
        let independent = !strategy.synchronous
        func own(_ peer: SessionPeer) -> Counts? { peer.answer?.measured ?? peer.answer?.results.ownEvaluation }
        func ownLoss(_ peer: SessionPeer) -> Double { own(peer)?.loss ?? .infinity }
        let best = independent ? session.peers.filter { $0.answer != nil }.min { ownLoss($0) < ownLoss($1) } : nil
        session.results = SessionResults(
            metrics: metrics,
            peers: session.peers.map { peer in
                let own = independent ? own(peer)?.metrics(task) : nil
                return PeerResult(
                    id: peer.id, name: peer.name, engine: peer.engine, device: peer.device, state: peer.state,
                    metrics: own ?? Metrics(loss: peer.loss, accuracy: peer.accuracy, samples: peer.trainedSamples),
                    samplesPerSecond: peer.samplesPerSecond, trainedSamples: peer.trainedSamples, message: peer.message,
                    workedSeconds: peer.workedSeconds, sentBytes: peer.sentBytes)
            }, rounds: min(session.round, session.settings.rounds),
            seconds: max(0, now.date.timeIntervalSince(session.startedAt ?? session.createdAt)),
            rows: session.ledger?.use, bestPeer: best?.name,
            reported: independent ? best?.answer?.results.ownEvaluation?.metrics(task) : session.reported,
            evaluation: evaluation)
        end(.completed, nil, now, &step)
    }

    /// The final status. Stopping and freeing peers and removing leftovers is the shell's, which takes it up again until it is done.
    mutating func end(_ status: SessionStatus, _ why: String?, _ now: Moment, _ step: inout Step) {
        session.status = status
        session.error = why
        session.waitingFor = nil
        session.endedAt = now.date
        session.isStarting = nil
        session.isEnding = true
        change(true)
        let words =
            switch status {
            case .completed: "Training completed"
            case .cancelled: "Training cancelled"
            default: "Training failed: \(why ?? "")"
            }
        notify(.status, words, now, &step)
    }
}
