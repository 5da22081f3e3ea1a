import CohortCore
import CohortWire
import FoundationEssentials

/// Rounds close.
extension SessionMachine {
    /// The peers that have answered for this round, including those that are gone since.
    var answered: [SessionPeer] { session.peers.filter { $0.answer?.round == session.round } }

    mutating func closeIfDue(began: Double, in turn: inout Turn) {
        skipSilentPeers(in: &turn)
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

    private mutating func skipSilentPeers(in turn: inout Turn) {
        for index in session.peers.indices {
            let peer = session.peers[index]
            if peer.state == .locked, peer.hasWork {
                if roster.secondsLocked(peer.id, at: turn.now.seconds) >= rules.enableWait { loseUnanswering(peer.id, in: &turn) }
            } else if peer.state == .training {
                let silence = roster.watch.silence(of: peer.id, at: turn.now.seconds)
                if silence >= roster.watch.patience(speed: peer.speed) {
                    skipRound(index, reason: Notices.stalled(silence), in: &turn)
                }
            }
        }
    }

    /// Reports which peers the round waits for, after a short delay.
    private mutating func updateWaitingFor(_ pending: [Int], at now: Moment) {
        let silent = pending.map { session.peers[$0] }.filter {
            roster.watch.silence(of: $0.id, at: now.seconds) >= min(10, rules.progressWait / 2)
        }
        guard !silent.isEmpty else { return wait(for: nil) }
        let patience = silent.map { roster.watch.patience(speed: $0.speed) }.max() ?? 0
        wait(for: Notices.answersAwaited(silent.map(\.name), round: isEvaluation ? nil : session.round, patience: patience))
    }

    private mutating func markLate(_ index: Int, in turn: inout Turn) {
        let peer = session.peers[index]
        let reason = "too late in round \(session.round + 1)"
        roster.forget(peer.id)
        // A peer that has never trained here is still loading the data set.
        if peer.state == .training, peer.trainedSamples == 0, peer.epoch == 0 {
            session.peers[index].load()
            session.peers[index].message = reason
            roster.watch.begin(peer.id, at: turn.now.seconds)
            prepare(index, in: &turn)
            return notify(.peer, Notices.lateWhileLoading(peer, round: session.round), in: &turn, peer: peer)
        }
        session.peers[index].slowDown(to: SpeedModel.bounded(peer.speed / 2, among: session.peers), reason: reason)
        // A sleeping laptop is reported once, until it answers again.
        guard roster.reports("late/\(peer.id)") else { return }
        notify(.peer, Notices.late(peer, round: session.round), in: &turn, peer: peer)
    }

    /// No peer is left that works on the round: it begins again, as new attempts, so that answers to the earlier ones are stale.
    mutating func reopen(in turn: inout Turn) {
        clearRound()
        session.roundStartedAt = nil
        phase = .betweenRounds
        change(.decision)
        notify(.round, Notices.reopened(round: min(session.round + 1, session.settings.rounds)), in: &turn)
    }

    private mutating func close(in turn: inout Turn) {
        wait(for: nil)
        if isEvaluation { return closeEvaluation(in: &turn) }
        let scales = limitNorms(in: &turn)
        let answers = answered
        guard !answers.isEmpty else { return reopen(in: &turn) }
        let needed = strategy.answersNeeded(session.settings)
        guard answers.count >= needed else {
            notify(.note, Notices.tooFewAnswers(answers.count, strategy: strategy.name, needed: needed), in: &turn)
            return reopen(in: &turn)
        }
        var outcome = strategy.outcome(of: answers.map(strategyAnswer), session.settings)
        for index in outcome.shares.indices { outcome.shares[index].scale *= scales[outcome.shares[index].peerId] ?? 1 }
        limitStreams(in: &outcome, turn: &turn)
        if case .collecting(let since) = phase { phase = .aggregating(since: since) }
        turn.make(.aggregate(outcome))
    }

    private func strategyAnswer(_ peer: SessionPeer) -> StrategyAnswer {
        let results = peer.answer?.results
        let batch = max(1, session.settings.hyperparameters(of: peer).batchSize)
        let epochs = max(0, min(results?.epochs ?? 0, 1 << 20))
        // The samples of an unfinished epoch.
        let rest = max(0, (results?.samples ?? 0) - epochs * peer.rowCount)
        return StrategyAnswer(
            peerId: peer.id, samples: max(0, results?.samples ?? 0),
            steps: epochs * ((peer.rowCount + batch - 1) / batch) + (rest + batch - 1) / batch,
            staleness: peer.answer?.workRound.map { session.round - $0 } ?? 0,
            ownEvaluation: peer.answer?.measured ?? results?.ownEvaluation)
    }
}
