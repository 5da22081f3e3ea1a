import CohortCore
import CohortWire
import FoundationEssentials

/// Rounds begin.
extension SessionMachine {
    /// Begins, closes and ends what is due.
    mutating func advanceRounds(in turn: inout Turn) {
        guard session.status == .running, !phase.isBusy else { return }
        // The peers were asked to answer within the limit; those that do not are not waited for.
        if runTime(at: turn.now) >= rules.maxRunTime + max(60, rules.maxRunTime / 10) {
            return end(.failed, reason: Notices.runLimitFailure(rules.maxRunTime, round: session.round), in: &turn)
        }
        excludeStalledLoaders(in: &turn)
        if case .collecting(let since) = phase { closeIfDue(began: since, in: &turn) }
        if session.status == .running, phase == .betweenRounds { beginIfPossible(in: &turn) }
    }

    private mutating func beginIfPossible(in turn: inout Turn) {
        let available = session.peers.filter(\.isAlive)
        if available.count < session.settings.minPeers || available.isEmpty {
            // The model is trained; its measurement waits for no peer.
            if isEvaluation, let weights = session.weights { return concludeUnmeasured(weights, in: &turn) }
            return waitForPeers(available: available.count, in: &turn)
        }
        if roster.isEnabledOverdue(after: rules.enableWait, at: turn.now.seconds) {
            for id in roster.awaited.sorted() { loseUnanswering(id, in: &turn) }
            roster.stopAwaiting()
            change(.decision)
            return beginIfPossible(in: &turn)
        }
        guard roster.awaited.isEmpty else {
            let names = roster.awaited.compactMap { id in index(id).map { session.peers[$0].name } }.sorted()
            return wait(for: Notices.enableAwaited(names))
        }
        let ready = session.peers.indices.filter {
            let peer = session.peers[$0]
            return peer.isAlive && (peer.state == .ready || peer.state == .done && !hasAnsweredNextRound(peer))
        }
        // A peer that still trains takes part in the next round with that work.
        let working = session.peers.count {
            $0.isAlive && ($0.state == .training && $0.workRound != nil || hasAnsweredNextRound($0))
        }
        guard ready.count + working >= session.settings.minPeers else {
            let notReady = available.filter { $0.state == .loading || $0.state == .locked }
            for peer in notReady where peer.state == .locked {
                guard roster.secondsLocked(peer.id, at: turn.now.seconds) >= rules.enableWait else { continue }
                loseUnanswering(peer.id, in: &turn)
                return beginIfPossible(in: &turn)
            }
            return wait(for: Notices.readyAwaited(session.settings.minPeers - ready.count, notReady: notReady))
        }
        waitingSince = nil
        wait(for: nil)
        isEvaluation ? beginEvaluation(ready, in: &turn) : beginTraining(ready, in: &turn)
    }

    private mutating func waitForPeers(available: Int, in turn: inout Turn) {
        let failures = session.peers.filter { $0.state == .failed }.compactMap { peer in peer.message.map { "\(peer.name): \($0)" } }
        if available == 0, !failures.isEmpty, failures.count == session.peers.count {
            return end(.failed, reason: failures.bounded(separator: "; "), in: &turn)
        }
        let minPeers = session.settings.minPeers
        let since = waitingSince ?? turn.now.seconds
        if waitingSince == nil {
            waitingSince = turn.now.seconds
            wait(for: Notices.peersAwaited(minPeers - available, available: available, minPeers: minPeers))
            notify(.status, "Waiting for \(session.waitingFor ?? "peers")", in: &turn)
        }
        if turn.now.seconds - since >= rules.peerWait {
            let reasons = failures + session.peers.filter { $0.state == .lost }.map(Notices.isLost)
            return end(
                .failed, reason: Notices.tooFewPeers(available, minPeers: minPeers, after: rules.peerWait, reasons: reasons), in: &turn)
        }
        turn.perform(.claim(minPeers - available))
    }

    mutating func wait(for what: String?) {
        guard session.waitingFor != what else { return }
        session.waitingFor = what
        change(.progress)
    }

    private mutating func beginTraining(_ ready: [Int], in turn: inout Turn) {
        guard let dataset = session.dataset else { return }
        // In a buffered round, rows are dealt to all peers: those that go on working have theirs already.
        let dealt = isBuffered ? session.peers.indices.filter { session.peers[$0].isAlive } : ready
        let all = strategy.deal(trainingRows: dataset.trainingRows, round: session.round, peers: dealt.map { session.peers[$0] })
        let shares = zip(dealt, all).filter { ready.contains($0.0) }.map { $0.1 }
        let slices = slices(dataset.validationRows, among: ready.count)
        clearRound()
        for (position, (index, ranges)) in zip(ready, shares).enumerated() {
            session.peers[index].rows = ranges.filter { $0.count > 0 }
            // The first weights are not measured; a peer's own model is measured on all rows.
            session.peers[index].validationRows =
                strategy.trainsOwnModels
                ? RowRange(start: 0, end: dataset.validationRows) : !session.checkpoints.isEmpty ? slices[position] : nil
            if session.peers[index].validationRows?.count == 0 { session.peers[index].validationRows = nil }
            assign(index, if: !session.peers[index].rows.isEmpty, in: &turn)
        }
        noteSmallShares(ready, in: &turn)
        open(at: turn.now)
    }

    /// Reports shares smaller than the batch, once per peer, in one notice for many peers.
    private mutating func noteSmallShares(_ ready: [Int], in turn: inout Turn) {
        func batch(_ peer: SessionPeer) -> Int { session.settings.hyperparameters(peerId: peer.id, name: peer.name).batchSize }
        let small = ready.map { session.peers[$0] }.filter { $0.rowCount < batch($0) && roster.reports("batch/\($0.id)") }
        let idle = small.filter { $0.rowCount == 0 }
        if !idle.isEmpty { notify(.note, Notices.noRows(idle.map(\.name)), in: &turn) }
        let fitted = small.filter { $0.rowCount > 0 }
        guard let first = fitted.first else { return }
        guard fitted.count > 2 else {
            for peer in fitted { notify(.note, Notices.smallShare(peer, batch: batch(peer)), in: &turn, peer: peer) }
            return
        }
        notify(.note, Notices.smallShares(fitted, batch: batch(first)), in: &turn)
    }

    private mutating func beginEvaluation(_ ready: [Int], in turn: inout Turn) {
        guard let dataset = session.dataset, let weights = session.weights else { return }
        guard dataset.validationRows > 0, !strategy.trainsOwnModels else {
            return conclude(weights, metrics: session.checkpoints.last?.validation ?? Metrics(loss: nil, samples: 0), in: &turn)
        }
        clearRound()
        for (index, slice) in zip(ready, slices(dataset.validationRows, among: ready.count)) {
            session.peers[index].validationRows = slice.count > 0 ? slice : nil
            assign(index, if: slice.count > 0, in: &turn)
        }
        open(at: turn.now)
        notify(.status, Notices.measuring(rows: dataset.validationRows), in: &turn)
    }

    private mutating func assign(_ index: Int, if hasWork: Bool, in turn: inout Turn) {
        guard hasWork else { return session.peers[index].becomeReady() }
        session.peers[index].rowsAhead = nil
        if !session.peers[index].rows.isEmpty { session.peers[index].lastRows = session.peers[index].rows }
        session.peers[index].deal(places(of: session.peers[index]))
        session.peers[index].train(attempt: newAttempt())
        roster.beginWork(session.peers[index].id, at: turn.now.seconds)
        turn.send(.train(peerId: session.peers[index].id))
    }

    /// A peer's rows of this round as places in the table, where held-out rows follow the training rows.
    private func places(of peer: SessionPeer) -> [RowRange] {
        let held = peer.validationRows.map { $0.moved(by: session.dataset?.trainingRows ?? 0) }
        return peer.rows + (held.map { [$0] } ?? [])
    }

    /// Sends ENABLE with the rows that the peer is expected to get, so that it has them when its first round begins: those of the round that it was
    /// too slow for, else its share if the next round began now.
    mutating func prepare(_ index: Int, in turn: inout Turn) {
        let id = session.peers[index].id
        guard let dataset = session.dataset else { return turn.send(.enable(peerId: id, prepares: false)) }
        var ahead = places(of: session.peers[index])
        if ahead.isEmpty {
            let alive = session.peers.indices.filter { session.peers[$0].isAlive }
            let shares = strategy.deal(
                trainingRows: dataset.trainingRows, round: session.round + 1, peers: alive.map { session.peers[$0] })
            let position = alive.firstIndex(of: index) ?? 0
            ahead = shares.indices.contains(position) ? shares[position].filter { $0.count > 0 } : []
        }
        session.peers[index].rowsAhead = ahead
        session.peers[index].deal(ahead)
        turn.send(.enable(peerId: id, prepares: true))
        change(.decision)
    }

    private mutating func open(at now: Moment) {
        session.roundStartedAt = now.date
        phase = .collecting(since: now.seconds)
        change(.decision)
    }

    private func slices(_ rows: Int, among count: Int) -> [RowRange] {
        (0..<count).map { RowRange(start: rows * $0 / count, end: rows * ($0 + 1) / count) }
    }

    mutating func clearRound() {
        roster.clearRound()
        for index in session.peers.indices where session.peers[index].workRound == nil || session.peers[index].state != .training {
            // An answer received after the last round closed belongs to the next.
            if !hasAnsweredNextRound(session.peers[index]) { session.peers[index].clearRound() }
        }
    }

    /// A buffered round only: the peer has answered after the last round closed.
    private func hasAnsweredNextRound(_ peer: SessionPeer) -> Bool {
        isBuffered && session.roundStartedAt == nil && peer.state == .done && peer.answer?.round == session.round
    }
}
