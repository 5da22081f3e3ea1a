import FoundationEssentials

/// Rounds begin.
extension SessionMachine {
    /// Begins, closes and ends what is due.
    mutating func advanceRounds(in turn: inout Turn) {
        guard session.status == .running, !isBusy else { return }
        // Its peers were asked to answer in time; those that do not hold nobody for longer.
        if runTime(at: turn.now) >= rules.maxRunTime + max(60, rules.maxRunTime / 10) {
            return end(.failed, reason: "\(runLimitReached), and its round \(session.round + 1) did not end", in: &turn)
        }
        excludeStalledLoaders(in: &turn)
        if session.roundStartedAt != nil { closeIfDue(in: &turn) }
        if session.status == .running, !isBusy, session.roundStartedAt == nil { beginIfPossible(in: &turn) }
    }

    /// Seconds since training began, by the clock that the document keeps: other coordinators go on counting.
    func runTime(at now: Moment) -> Double { session.startedAt.map { now.date.timeIntervalSince($0) } ?? 0 }

    var runLimitReached: String {
        "the session has trained for \(Int(rules.maxRunTime)) s, the most that this server allows (COHORT_LONGEST_RUN)"
    }

    /// The last step: the model is measured on the held-out rows.
    public var isEvaluation: Bool { session.round >= session.settings.rounds }

    private mutating func beginIfPossible(in turn: inout Turn) {
        let living = session.peers.filter(\.isAlive)
        if living.count < session.settings.minPeers || living.isEmpty {
            // The model is trained: what is left is to measure it, which nobody has to wait for.
            if isEvaluation, let weights = session.weights { return concludeUnmeasured(weights, in: &turn) }
            return waitForPeers(living.count, in: &turn)
        }
        if !awaited.isEmpty, let since = awaitedSince, turn.now.seconds - since >= rules.enableWait {
            for id in awaited.sorted() { loseUnanswering(id, in: &turn) }
            awaited = []
            awaitedSince = nil
            change(.decision)
            return beginIfPossible(in: &turn)
        }
        guard awaited.isEmpty else {
            let names = awaited.compactMap { id in index(id).map { session.peers[$0].name } }.sorted()
            return wait(for: "\(names.bounded()) to answer ENABLE")
        }
        let ready = session.peers.indices.filter {
            session.peers[$0].isAlive
                && (session.peers[$0].state == .ready || session.peers[$0].state == .done && !hasAnsweredNextRound(session.peers[$0]))
        }
        // Who still trains takes part in the next round by that.
        let busy = session.peers.count { $0.isAlive && ($0.state == .training && $0.workRound != nil || hasAnsweredNextRound($0)) }
        guard ready.count + busy >= session.settings.minPeers else {
            let others = living.filter { $0.state == .loading || $0.state == .locked }
            for peer in others where peer.state == .locked {
                let since = lockedSince[peer.id] ?? turn.now.seconds
                lockedSince[peer.id] = since
                if turn.now.seconds - since >= rules.enableWait {
                    loseUnanswering(peer.id, in: &turn)
                    return beginIfPossible(in: &turn)
                }
            }
            let missing = session.settings.minPeers - ready.count
            return wait(
                for: "\(missing) more \(missing == 1 ? "peer" : "peers") to be ready"
                    + (others.isEmpty
                        ? ""
                        : ": \(others.map { "\($0.name) \($0.state == .loading ? "loads the data set" : "has not answered ENABLE")" }.bounded())")
            )
        }
        waitingSince = nil
        wait(for: nil)
        isEvaluation ? beginEvaluation(ready, in: &turn) : beginTraining(ready, in: &turn)
    }

    mutating func loseUnanswering(_ id: String, in turn: inout Turn) {
        guard let index = index(id), session.peers[index].isAlive else { return }
        session.peers[index].state = .lost
        session.peers[index].message = "did not answer ENABLE"
        forget(id)
        turn.perform(.free(peerId: id))
        notify(.peer, "\(session.peers[index].name) did not answer in time", in: &turn, peer: session.peers[index])
        change(.decision)
    }

    private mutating func waitForPeers(_ living: Int, in turn: inout Turn) {
        let failures = session.peers.filter { $0.state == .failed }.compactMap { peer in peer.message.map { "\(peer.name): \($0)" } }
        if living == 0, !failures.isEmpty, failures.count == session.peers.count {
            return end(.failed, reason: failures.bounded(separator: "; "), in: &turn)
        }
        let since = waitingSince ?? turn.now.seconds
        if waitingSince == nil {
            waitingSince = turn.now.seconds
            let need = session.settings.minPeers - living
            wait(for: "\(need) more \(need == 1 ? "peer" : "peers"): \(living) of at least \(session.settings.minPeers) are there")
            notify(.status, "Waiting for \(session.waitingFor ?? "peers")", in: &turn)
        }
        if turn.now.seconds - since >= rules.peerWait {
            let reasons =
                failures + session.peers.filter { $0.state == .lost }.map { "\($0.name) is lost\($0.message.map { " (\($0))" } ?? "")" }
            return end(
                .failed,
                reason:
                    "only \(living) of at least \(session.settings.minPeers) peers are left, and no other came within \(Int(rules.peerWait)) s: \(reasons.bounded(separator: "; "))",
                in: &turn)
        }
        turn.perform(.claim(session.settings.minPeers - living))
    }

    mutating func wait(for what: String?) {
        guard session.waitingFor != what else { return }
        session.waitingFor = what
        change(.progress)
    }

    private mutating func beginTraining(_ ready: [Int], in turn: inout Turn) {
        guard let dataset = session.dataset else { return }
        // Where some go on with what they have, all are dealt to: else the others' shares would be theirs as well.
        let dealt = isBuffered ? session.peers.indices.filter { session.peers[$0].isAlive } : ready
        let all = strategy.deal(trainingRows: dataset.trainingRows, round: session.round, peers: dealt.map { session.peers[$0] })
        let shares = zip(dealt, all).filter { ready.contains($0.0) }.map { $0.1 }
        let slices = slices(dataset.validationRows, among: ready.count)
        clearRound()
        for (position, (index, ranges)) in zip(ready, shares).enumerated() {
            session.peers[index].rows = ranges.filter { $0.count > 0 }
            // The weights that round 0 begins with are nobody's to measure; an own model is measured on all.
            session.peers[index].validationRows =
                strategy.trainsOwnModels
                ? RowRange(start: 0, end: dataset.validationRows) : !session.checkpoints.isEmpty ? slices[position] : nil
            if session.peers[index].validationRows?.count == 0 { session.peers[index].validationRows = nil }
            assign(index, if: !session.peers[index].rows.isEmpty, in: &turn)
        }
        noteSmallShares(ready, in: &turn)
        roundBegan(at: turn.now)
    }

    /// A share smaller than the batch is one smaller batch: that is said once, of many peers together, and ends nothing.
    private mutating func noteSmallShares(_ ready: [Int], in turn: inout Turn) {
        func batch(_ peer: SessionPeer) -> Int { session.settings.hyperparameters(peerId: peer.id, name: peer.name).batchSize }
        let small = ready.map { session.peers[$0] }.filter { $0.rowCount < batch($0) && !noted.contains("batch/\($0.id)") }
        noted.formUnion(small.map { "batch/\($0.id)" })
        let idle = small.filter { $0.rowCount == 0 }
        if !idle.isEmpty {
            notify(
                .note, "\(idle.map(\.name).bounded()) \(idle.count == 1 ? "gets" : "get") no rows: there are fewer than peers", in: &turn)
        }
        let fitted = small.filter { $0.rowCount > 0 }
        guard let first = fitted.first else { return }
        guard fitted.count > 2 else {
            for peer in fitted {
                notify(
                    .note,
                    "batch_size \(batch(peer)) is larger than \(peer.name)'s share of \(peer.rowCount) \(peer.rowCount == 1 ? "row" : "rows"): it trains them as one smaller batch",
                    in: &turn, peer: peer)
            }
            return
        }
        let (least, most) = (fitted.map(\.rowCount).min() ?? 0, fitted.map(\.rowCount).max() ?? 0)
        notify(
            .note,
            "batch_size \(batch(first)) is larger than the shares of \(fitted.map(\.name).bounded()) (\(least == most ? "\(most)" : "\(least) to \(most)") rows each): each trains its rows as one smaller batch",
            in: &turn)
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
        roundBegan(at: turn.now)
        notify(.status, "Measuring the model on \(dataset.validationRows) held-out rows", in: &turn)
    }

    private mutating func assign(_ index: Int, if hasWork: Bool, in turn: inout Turn) {
        session.peers[index].state = hasWork ? .training : .ready
        guard hasWork else { return }
        session.peers[index].attempt = newAttempt()
        session.peers[index].workRound = nil
        workBegan[session.peers[index].id] = turn.now.seconds
        watch.begin(session.peers[index].id, at: turn.now.seconds)
        turn.send(.train(peerId: session.peers[index].id))
    }

    private mutating func roundBegan(at now: Moment) {
        session.roundStartedAt = now.date
        roundBeganAt = now.seconds
        change(.decision)
    }

    private func slices(_ rows: Int, among count: Int) -> [RowRange] {
        (0..<count).map { RowRange(start: rows * $0 / count, end: rows * ($0 + 1) / count) }
    }

    mutating func clearRound() {
        retries = [:]
        lockedSince = [:]
        for index in session.peers.indices where session.peers[index].workRound == nil || session.peers[index].state != .training {
            // One that came since the last round closed is of the next.
            if hasAnsweredNextRound(session.peers[index]) { continue }
            session.peers[index].rows = []
            session.peers[index].validationRows = nil
            session.peers[index].answer = nil
            session.peers[index].epoch = 0
            session.peers[index].progress = 0
        }
    }

    /// Whether it has answered for the round that is about to begin, since the last one closed.
    private func hasAnsweredNextRound(_ peer: SessionPeer) -> Bool {
        isBuffered && session.roundStartedAt == nil && peer.state == .done && peer.answer?.round == session.round
    }
}
