import CohortCore
import CohortWire
import FoundationEssentials

/// Peers report on a round's work.
extension SessionMachine {
    mutating func heartbeat(_ event: HeartbeatEvent, in turn: inout Turn) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training
        else { return }
        roster.watch.sign(event.peerId, speed: session.peers[index].speed, at: turn.now.seconds)
        let epochs = session.settings.hyperparameters(of: session.peers[index]).epochs
        // A repeated epoch changes nothing, and more epochs than assigned are not recorded.
        guard event.epoch > session.peers[index].epoch, event.epoch <= epochs else { return }
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
            sessionId: session.id, kind: .epoch, time: turn.now.date, message: Notices.epoch(event.epoch, of: peer, round: event.round))
        notice.epoch = event.epoch
        notice.loss = loss
        notice.accuracy = event.accuracy
        notice.samplesPerSecond = event.samplesPerSecond
        notify(notice, in: &turn, peer: peer)
    }

    mutating func done(
        _ event: DoneEvent, norm: Double?, streamNorms: [String: Double]?, measured: Counts?, in turn: inout Turn
    ) {
        guard let index = currentWork(of: event) else { return }
        roster.watch.sign(event.peerId, speed: session.peers[index].speed, at: turn.now.seconds)
        noteContradiction(of: event.results, measured: measured, peer: index, in: &turn)
        let workRound = session.peers[index].workRound
        let began = workRound == nil ? phase.roundBeganAt : roster.workBegan[event.peerId]
        let answer = PeerAnswer(
            round: session.round, workRound: workRound, results: event.results, update: event.update, answeredAt: turn.now.date,
            seconds: began.map { turn.now.seconds - $0 }, norm: norm,
            streamNorms: streamNorms?.isEmpty ?? true ? nil : streamNorms, measured: measured)
        accept(answer, of: index)
        roster.mayReportAgain("late/\(event.peerId)")
        turn.record(
            RecordedAnswer(
                peerId: event.peerId, generation: event.generation, attempt: session.peers[index].attempt, answer: answer,
                updateData: event.updateData))
    }

    private mutating func accept(_ answer: PeerAnswer, of index: Int) {
        // An update's size is what the peer says of it.
        let maxUpdateBytes = 4 * (session.updateLayout?.count ?? 0) + 1 << 20
        session.peers[index].finish(with: answer, maxUpdateBytes: maxUpdateBytes)
        roster.watch.end(session.peers[index].id)
        if let seconds = answer.seconds, answer.workRound == nil { deadline.add(seconds) }
        change(.progress)
    }

    /// Restores the recorded answers to the open round that are not in the document.
    public mutating func restore(_ answers: [RecordedAnswer]) {
        guard session.status == .running, session.roundStartedAt != nil else { return }
        for recorded in answers where recorded.answer.round == session.round {
            guard let index = index(recorded.peerId), session.peers[index].isAlive, session.peers[index].answer?.round != session.round,
                session.peers[index].hasWork, recorded.attempt == session.peers[index].attempt
            else { continue }
            accept(recorded.answer, of: index)
        }
    }

    /// Reports a peer whose own measurement contradicts the server's; the server's counts.
    private mutating func noteContradiction(of results: DoneResults, measured: Counts?, peer index: Int, in turn: inout Turn) {
        guard let measured, let task = session.model?.task,
            let reported = strategy.trainsOwnModels ? results.ownEvaluation : results.evaluation, measured.contradicts(reported, task)
        else { return }
        let message = Notices.contradiction(session.peers[index], reported: reported, measured: measured, task: task)
        session.peers[index].message = message
        notify(.note, message, in: &turn, peer: session.peers[index])
    }

    // MARK: Failures

    mutating func refused(_ event: DoneEvent, reason: String, in turn: inout Turn) {
        guard let index = currentWork(of: event) else { return }
        session.peers[index].message = Notices.refusedMessage(round: event.round, reason: reason)
        notify(.peer, Notices.refused(session.peers[index], reason: reason), in: &turn, peer: session.peers[index])
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

    /// Sends new links, as the previous ones may have expired; excludes the peer at the third failure in a row.
    private mutating func retryLoading(_ index: Int, reason: String, in turn: inout Turn) {
        let id = session.peers[index].id
        guard roster.mayLoadAgain(id) else { return exclude(index, reason: reason, in: &turn) }
        roster.watch.begin(id, at: turn.now.seconds)
        prepare(index, in: &turn)
    }

    /// Assigns the work again as a new attempt; skips the round at the third refusal.
    private mutating func retry(_ index: Int, reason: String, in turn: inout Turn) {
        let id = session.peers[index].id
        guard roster.mayRetry(id) else { return skipRound(index, reason: reason, in: &turn) }
        session.peers[index].train(attempt: newAttempt())
        roster.watch.begin(id, at: turn.now.seconds)
        turn.send(.train(peerId: id))
        change(.decision)
    }

    /// Ends the peer's part in this round, without an answer. It gets work again in the next round, unless it skipped the one before as well; where no
    /// round follows it is excluded.
    mutating func skipRound(_ index: Int, reason: String, in turn: inout Turn) {
        let misses = (session.peers[index].misses ?? 0) + 1
        session.peers[index].misses = misses
        guard !strategy.trainsOwnModels, !isEvaluation, misses < 2 else { return excludeWithNotice(index, reason: reason, in: &turn) }
        session.peers[index].skip(reason: reason)
        roster.forget(session.peers[index].id)
        notify(
            .peer, Notices.skipped(session.peers[index], round: session.round, reason: reason), in: &turn, peer: session.peers[index])
        change(.decision)
    }
}
