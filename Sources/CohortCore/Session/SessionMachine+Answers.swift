import FoundationEssentials

/// What peers report of a round's work.
extension SessionMachine {
    mutating func heartbeat(_ event: HeartbeatEvent, in turn: inout Turn) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training
        else { return }
        watch.sign(event.peerId, speed: session.peers[index].speed, at: turn.now.seconds)
        let asked = session.settings.hyperparameters(of: session.peers[index]).epochs
        // A repeat changes nothing; epochs that nobody asked for are not recorded.
        guard event.epoch > session.peers[index].epoch, event.epoch <= asked else { return }
        let loss = event.loss.isFinite ? event.loss : nil
        session.peers[index].epoch = event.epoch
        session.peers[index].loss = loss
        session.peers[index].accuracy = event.accuracy
        session.peers[index].samplesPerSecond = event.samplesPerSecond
        session.peers[index].progress = min(max(event.progress ?? 0, session.peers[index].progress), 1)
        change(.progress)
        let peer = session.peers[index]
        turn.record(
            MetricPoint(
                sessionId: session.id, peerId: peer.id, peerName: peer.name, round: event.round, epoch: event.epoch, loss: loss,
                accuracy: event.accuracy, r2: nil, samplesPerSecond: event.samplesPerSecond, time: turn.now.date))
        var notice = SessionNotice(
            sessionId: session.id, kind: .epoch, time: turn.now.date,
            message: "\(peer.name) finished epoch \(event.epoch) of round \(event.round + 1)")
        notice.epoch = event.epoch
        notice.loss = loss
        notice.accuracy = event.accuracy
        notice.samplesPerSecond = event.samplesPerSecond
        notify(notice, in: &turn, peer: peer)
    }

    mutating func done(
        _ event: DoneEvent, norm: Double?, streamNorms: [String: Double]?, measured: Counts?, in turn: inout Turn
    ) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training, event.attempt ?? session.peers[index].attempt == session.peers[index].attempt
        else { return }
        watch.sign(event.peerId, speed: session.peers[index].speed, at: turn.now.seconds)
        noteContradiction(of: event.results, measured: measured, peer: index, in: &turn)
        let workRound = session.peers[index].workRound
        let began = workRound == nil ? roundBeganAt : workBegan[event.peerId]
        let answer = PeerAnswer(
            round: session.round, workRound: workRound, results: event.results, update: event.update, answeredAt: turn.now.date,
            seconds: began.map { turn.now.seconds - $0 }, norm: norm,
            streamNorms: streamNorms?.isEmpty ?? true ? nil : streamNorms, measured: measured)
        take(answer, of: index)
        noted.remove("late/\(event.peerId)")
        turn.record(
            RecordedAnswer(
                peerId: event.peerId, generation: event.generation, attempt: session.peers[index].attempt, answer: answer,
                updateData: event.updateData))
    }

    /// A peer's word against what this process measured: what was measured counts.
    private mutating func noteContradiction(
        of results: DoneResults, measured: Counts?, peer index: Int, in turn: inout Turn
    ) {
        guard let measured, let task = session.model?.task,
            let said = strategy.trainsOwnModels ? results.ownEvaluation : results.evaluation, measured.contradicts(said, task)
        else { return }
        func text(_ counts: Counts) -> String {
            "loss \(((counts.loss ?? 0) * 1_000).rounded() / 1_000)"
                + (task == .classification ? ", accuracy \(((counts.accuracy ?? 0) * 1_000).rounded() / 1_000)" : "")
        }
        let words =
            "\(session.peers[index].name) reported \(text(said)) on the held-out rows, but the server measured \(text(measured)), which counts"
        session.peers[index].message = words
        notify(.note, words, in: &turn, peer: session.peers[index])
    }

    private mutating func take(_ answer: PeerAnswer, of index: Int) {
        let results = answer.results
        session.peers[index].state = .done
        session.peers[index].progress = 1
        session.peers[index].answer = answer
        session.peers[index].workRound = nil
        session.peers[index].misses = 0
        session.peers[index].restarts = nil
        session.peers[index].trainedSamples += max(0, results.samples)
        if let seconds = answer.seconds { session.peers[index].workedSeconds = (session.peers[index].workedSeconds ?? 0) + seconds }
        if let update = answer.update {
            session.peers[index].sentBytes = (session.peers[index].sentBytes ?? 0) + min(max(0, update.bytes), maxUpdateBytes)
        }
        if results.loss != nil {
            session.peers[index].loss = results.loss
            session.peers[index].accuracy = results.accuracy
        }
        if let rate = results.rate { session.peers[index].samplesPerSecond = rate }
        watch.end(session.peers[index].id)
        if let seconds = answer.seconds, answer.workRound == nil { deadline.add(seconds) }
        change(.progress)
    }

    /// That a peer's update can have: its size is the peer's word.
    private var maxUpdateBytes: Int { 4 * (session.updateLayout?.count ?? 0) + 1 << 20 }

    /// Takes over what was recorded before this machine began: answers to the round under way that its document does not have.
    public mutating func restore(_ answers: [RecordedAnswer]) {
        guard session.status == .running, session.roundStartedAt != nil else { return }
        for recorded in answers where recorded.answer.round == session.round {
            guard let index = index(recorded.peerId), session.peers[index].isAlive, session.peers[index].answer?.round != session.round,
                session.peers[index].hasWork, recorded.attempt == session.peers[index].attempt
            else { continue }
            take(recorded.answer, of: index)
        }
    }

    mutating func refused(_ event: DoneEvent, reason: String, in turn: inout Turn) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training, event.attempt ?? session.peers[index].attempt == session.peers[index].attempt
        else { return }
        session.peers[index].message = "update of round \(event.round + 1) refused: \(reason)"
        notify(.peer, "\(session.peers[index].name)'s update is refused: \(reason)", in: &turn, peer: session.peers[index])
        turn.send(
            .refused(peerId: event.peerId, round: event.round, attempt: session.peers[index].attempt ?? 0, reason: reason))
        retry(index, reason: reason, in: &turn)
    }

    mutating func error(_ event: ErrorEvent, in turn: inout Turn) {
        guard session.status == .running, event.generation == session.generation, let index = index(event.peerId) else { return }
        let isLoading = session.peers[index].state == .loading
        guard isLoading || event.round == session.peers[index].workRound ?? session.round && session.peers[index].state == .training
        else { return }
        session.peers[index].message = event.message
        notify(.peer, "\(session.peers[index].name): \(event.message)", in: &turn, peer: session.peers[index])
        if event.retryable, isLoading {
            retryLoading(index, reason: event.message, in: &turn)
        } else if event.retryable {
            retry(index, reason: event.message, in: &turn)
        } else {
            exclude(index, reason: event.message, in: &turn)
        }
    }

    /// With new links, as those it had may have expired; at the third failure in a row it is given up.
    private mutating func retryLoading(_ index: Int, reason: String, in turn: inout Turn) {
        let id = session.peers[index].id
        loadFailures[id, default: 0] += 1
        guard loadFailures[id, default: 0] < 3 else { return exclude(index, reason: reason, in: &turn) }
        watch.begin(id, at: turn.now.seconds)
        turn.send(.enable(peerId: id, prepares: true))
    }

    /// Asked anew, as a new attempt; at the third refusal the peer is left out of the round.
    private mutating func retry(_ index: Int, reason: String, in turn: inout Turn) {
        let id = session.peers[index].id
        retries[id, default: 0] += 1
        if retries[id, default: 0] < 3 {
            session.peers[index].attempt = newAttempt()
            session.peers[index].workRound = nil
            watch.begin(id, at: turn.now.seconds)
            turn.send(.train(peerId: id))
            change(.decision)
        } else {
            skipRound(index, reason: reason, in: &turn)
        }
    }

    /// Without an answer of this peer in this round. It gets work again in the next one, unless it missed the one before as well; where
    /// there is no next one it is given up.
    mutating func skipRound(_ index: Int, reason: String, in turn: inout Turn) {
        let misses = (session.peers[index].misses ?? 0) + 1
        session.peers[index].misses = misses
        guard !strategy.trainsOwnModels, !isEvaluation, misses < 2 else {
            notify(.peer, "\(session.peers[index].name) is left out: \(reason)", in: &turn, peer: session.peers[index])
            return exclude(index, reason: reason, in: &turn)
        }
        session.peers[index].state = .ready
        session.peers[index].workRound = nil
        session.peers[index].message = reason
        session.peers[index].progress = 0
        forget(session.peers[index].id)
        notify(
            .peer, "\(session.peers[index].name) is left out of round \(session.round + 1): \(reason)", in: &turn,
            peer: session.peers[index])
        change(.decision)
    }
}
