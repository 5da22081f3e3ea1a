import FoundationEssentials

/// From a round's answers to the next round's weights, and from the last ones to the model.
extension SessionMachine {
    /// Past so many times the median an update is clipped to it, unless the settings refuse it before.
    static let clipRatio = 10.0

    /// Holds the answers' norms against the median: of the round when three or more answered, else of those before.
    /// - Returns: how far each update that is too long is shortened, by peer.
    mutating func judgeNorms(in turn: inout Turn) -> [String: Double] {
        guard strategy.comparesNorms else { return [:] }
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
                let words = "\(peer.name)'s update is \(Self.times(ratio)) times as long as the median"
                if let limit = session.settings.maxNormRatio, ratio > limit {
                    session.peers[index].answer = nil
                    session.peers[index].trainedSamples = max(0, peer.trainedSamples - max(0, answer.results.samples))
                    let reason = "\(words); max_norm_ratio is \(limit)"
                    turn.send(.refused(peerId: peer.id, round: session.round, attempt: peer.attempt ?? 0, reason: reason))
                    if peer.isAlive { skipRound(index, reason: reason, in: &turn) }
                } else if ratio > Self.clipRatio {
                    scales[peer.id] = Self.clipRatio / ratio
                    notify(.note, "\(words): it is shortened to \(Int(Self.clipRatio)) times", in: &turn, peer: peer)
                } else if ratio > 3 {
                    notify(.note, words, in: &turn, peer: peer)
                }
            }
        }
        session.updateNorms += answered.compactMap(\.answer?.norm)
        if session.updateNorms.count > 64 { session.updateNorms.removeFirst(session.updateNorms.count - 64) }
        return scales
    }

    mutating func aggregated(
        weights: ObjectReference, measured: Counts?, outer: OuterState?, contributions: [Contribution], outcome: RoundOutcome?,
        in turn: inout Turn
    ) {
        guard isBusy, session.status == .running, let began = roundBeganAt, let task = session.model?.task else { return }
        isBusy = false
        let answers = answered
        // A late one measured older weights.
        let evaluations = answers.compactMap { $0.answer?.workRound == nil ? $0.answer?.results.evaluation : nil }
        note(evaluation: evaluations.reduce(Counts(), +), in: &turn)
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
            turn.record(
                MetricPoint(
                    sessionId: session.id, peerId: nil, peerName: nil, round: session.round, epoch: 0, loss: checkpoint.validation?.loss,
                    accuracy: checkpoint.validation?.accuracy, r2: checkpoint.validation?.r2, samplesPerSecond: nil, time: turn.now.date))
        }
        session.weights = weights
        if let rate = outer?.learningRate, session.outer == nil, session.settings.serverLr == nil, outer?.tau != nil {
            notify(
                .note,
                "The server's steps follow the first round's change: server_lr is \(Float(rate)), server_tau \(Float(outer?.tau ?? 0))",
                in: &turn)
        }
        session.outer = outer
        session.optimizerSteps = session.updateLayout?.streams.isEmpty ?? true ? nil : optimizerSteps(of: answers)
        if strategy.dealsBySpeed { correctSpeeds(answers) }
        discardOld(in: &turn)
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

    /// The update is not what was accepted any more: the round closes without it.
    mutating func aggregationFailed(peerId: String, reason: String, in turn: inout Turn) {
        guard isBusy, session.status == .running, let index = index(peerId) else { return }
        isBusy = false
        session.peers[index].answer = nil
        change(.decision)
        if session.peers[index].isAlive { skipRound(index, reason: reason, in: &turn) }
    }

    // MARK: Harm

    /// Without an answer that does harm, the held-out loss is below this.
    /// - Parameter loss: with it. A model that is nearly right has losses that differ by much of themselves for nothing: what counts is also a part of what guessing loses.
    public func harmlessLoss(_ loss: Double) -> Double {
        guard loss.isFinite else { return .infinity }
        // Of classes the logarithm of their number; of a standardized quantity its variance.
        let guessing = session.model.map { $0.task == .classification ? 0.693147 * octaves(Double(max(2, $0.outputs))) : 1 } ?? 1
        return min(loss * 0.95, loss - 0.03 * guessing)
    }

    /// Past so many times the median's length, or below this cosine to the others' change, an answer is looked at.
    private static let (conspicuousRatio, conspicuousCosine) = (3.0, -0.2)
    /// Answers in a row that do harm until the peer is quarantined.
    static let maxStrikes = 2
    /// Answers of a round that are looked at.
    private static let maxSuspects = 5

    /// A peer whose answer stands out.
    public struct Suspect: Hashable, Sendable {
        public var peerId: String
        /// How it stands out: the rest of a sentence that begins with "its change" or names the stream.
        public var reason: String
        /// Its optimizer state or control variate stands out: the model is measured after the steps that these make.
        public var hasLongStream: Bool
    }

    /// The peers whose changes of a round stand out, most conspicuous first. In a mean every answer counts; robust rules bound them.
    public func suspects(_ outcome: RoundOutcome, _ contributions: [Contribution]) -> [Suspect] {
        guard strategy.comparesNorms, outcome.rule == .mean, contributions.count >= 3, session.dataset?.validationRows ?? 0 > 0 else {
            return []
        }
        let norms = contributions.compactMap(\.norm).sorted()
        guard norms.count == contributions.count, norms[norms.count / 2] > 0 else { return [] }
        let median = norms[norms.count / 2]
        let streams = streamRatios(of: contributions.map(\.peerId))
        let found = contributions.compactMap { each -> (size: Double, suspect: Suspect)? in
            let ratio = (each.norm ?? 0) / median
            let cosine = each.cosine ?? 1
            if let longest = streams[each.peerId]?.max(by: { ($0.value, $0.key) < ($1.value, $1.key) }),
                longest.value > max(ratio, Self.maxStreamRatio)
            {
                let reason = "has \(longest.key) \(Self.times(longest.value)) times as long as the median"
                return (longest.value, Suspect(peerId: each.peerId, reason: reason, hasLongStream: true))
            }
            guard ratio > Self.conspicuousRatio || cosine < Self.conspicuousCosine else { return nil }
            let angle = "points against the others' (cosine \((cosine * 100).rounded() / 100))"
            let length = "is \(Int(min(ratio, 1e9))) times as long as the median"
            let reason = ratio <= Self.conspicuousRatio ? angle : cosine >= Self.conspicuousCosine ? length : "\(length) and \(angle)"
            return (max(ratio, 1) * (1.5 - cosine), Suspect(peerId: each.peerId, reason: reason, hasLongStream: false))
        }
        return found.sorted { ($0.size, $1.suspect.peerId) > ($1.size, $0.suspect.peerId) }.prefix(Self.maxSuspects).map(\.suspect)
    }

    /// The round closes without the answer; at the second in a row its peer is quarantined: the session goes on without it.
    mutating func harmful(peerId: String, reason: String, in turn: inout Turn) {
        guard isBusy, session.status == .running, let index = index(peerId) else { return }
        isBusy = false
        let peer = session.peers[index]
        session.peers[index].answer = nil
        session.peers[index].trainedSamples = max(0, peer.trainedSamples - max(0, peer.answer?.results.samples ?? 0))
        let strikes = (peer.strikes ?? 0) + 1
        session.peers[index].strikes = strikes
        turn.send(.refused(peerId: peerId, round: session.round, attempt: peer.attempt ?? 0, reason: reason))
        change(.decision)
        guard peer.isAlive else { return }
        guard strikes >= Self.maxStrikes else {
            session.peers[index].state = .ready
            session.peers[index].message = reason
            return notify(.peer, "\(peer.name) is left out of round \(session.round + 1): \(reason)", in: &turn, peer: peer)
        }
        notify(.peer, "\(peer.name) is quarantined after \(strikes) such rounds: \(reason)", in: &turn, peer: peer)
        exclude(index, reason: "quarantined: \(reason)", in: &turn)
    }

    /// The mean, by samples as the weights have it: peers make about as many, and one that lies moves it by its part.
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

    /// Octaves, smoothed, by which a speed may be off: a third. Nearer than that a busy moment would move rows to and fro.
    private static let maxDrift = 0.4

    /// Holds what the answers show against the speeds; one moves, up or down, when it is off by more for good. Short rounds
    /// measure nothing, so that a small session can be repeated bit by bit.
    private mutating func correctSpeeds(_ answers: [SessionPeer]) {
        for peer in answers { regain(peer.id) }
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
            guard abs(drift) >= Self.maxDrift else { continue }
            session.peers[index].speed = boundedSpeed(SessionPeer.speedClass(of: session.peers[index].speed * SessionPeer.power(drift)))
            session.peers[index].drift = nil
        }
    }

    /// One that was late and answers in time again, awake by now, has its speed back after a few rounds: what it trained meanwhile is too little to
    /// measure it by.
    private mutating func regain(_ id: String) {
        guard let index = index(id), let before = session.peers[index].speedBeforeLate else { return }
        // More than that was measured already.
        if session.peers[index].speed < before {
            let speed = min(before, 4 * session.peers[index].speed)
            session.peers[index].speed = boundedSpeed(SessionPeer.speedClass(of: speed))
            session.peers[index].drift = nil
            session.peers[index].isRegaining = true
        }
        guard session.peers[index].speed >= before else { return }
        session.peers[index].speedBeforeLate = nil
        session.peers[index].isRegaining = nil
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

    // MARK: After a round

    /// The newest five checkpoints and the best are kept.
    private mutating func discardOld(in turn: inout Turn) {
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

    private mutating func finishRound(in turn: inout Turn) {
        let closed = session.round
        session.round += 1
        session.roundStartedAt = nil
        roundBeganAt = nil
        for index in session.peers.indices {
            if session.peers[index].state == .done { session.peers[index].state = .ready }
            if isBuffered, session.peers[index].state == .training {
                // It goes on, while there is a round that its answer can count in.
                session.peers[index].workRound = session.peers[index].workRound ?? closed
                guard isEvaluation else { continue }
                session.peers[index].workRound = nil
                session.peers[index].state = .ready
                forget(session.peers[index].id)
            }
            session.peers[index].progress = 0
        }
        change(.decision)
        let training = session.lastRound?.training
        var notice = SessionNotice(
            sessionId: session.id, kind: .round, time: turn.now.date, message: "Round \(closed + 1) of \(session.settings.rounds) is done")
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
        notify(notice, in: &turn)
        if let patience = session.settings.earlyStopping, !strategy.trainsOwnModels, let best = session.best,
            (session.checkpoints.last?.isMeasured == true ? closed : closed - 1) - best.round >= patience
        {
            notify(
                .note, "No better validation loss for \(patience) rounds: stopping with the weights of round \(best.round + 1)", in: &turn)
            return conclude(best.weights, metrics: best.validation ?? Metrics(loss: nil, samples: 0), in: &turn)
        }
        if runTime(at: turn.now) >= rules.maxRunTime, !isEvaluation {
            notify(.note, "\(runLimitReached): it ends after round \(closed + 1) of \(session.settings.rounds)", in: &turn)
            if !strategy.trainsOwnModels, let best = session.best {
                return conclude(best.weights, metrics: best.validation ?? Metrics(loss: nil, samples: 0), in: &turn)
            }
            // What follows measures the model that there is.
            session.settings.rounds = session.round
            change(.decision)
        }
        let living = session.peers.count(where: \.isAlive)
        if living < session.settings.peers, !isEvaluation { turn.perform(.claim(session.settings.peers - living)) }
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

    mutating func conclude(_ weights: ObjectReference, metrics: Metrics, in turn: inout Turn) {
        isBusy = true
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
                    workedSeconds: peer.workedSeconds, sentBytes: peer.sentBytes)
            }, rounds: min(session.round, session.settings.rounds),
            seconds: max(0, turn.now.date.timeIntervalSince(session.startedAt ?? session.createdAt)),
            rows: session.ledger?.use, bestPeer: best?.name,
            reported: hasOwn ? best?.answer?.results.ownEvaluation?.metrics(task) : session.reported,
            evaluation: evaluation)
        end(.completed, in: &turn)
    }

    /// The final status. Stopping and freeing peers and removing leftovers is the shell's, which takes it up again until it is done.
    mutating func end(_ status: SessionStatus, reason: String? = nil, in turn: inout Turn) {
        session.status = status
        session.error = reason
        session.waitingFor = nil
        session.endedAt = turn.now.date
        session.isStarting = nil
        session.isEnding = true
        change(.decision)
        let words =
            switch status {
            case .completed: "Training completed"
            case .cancelled: "Training cancelled"
            default: "Training failed: \(reason ?? "")"
            }
        notify(.status, words, in: &turn)
    }
}
