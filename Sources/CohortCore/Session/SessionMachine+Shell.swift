extension SessionMachine {
    /// The lease was renewed: a person may want the session cancelled since.
    public mutating func renewed(_ lease: HeldLease) { session.cancelRequested = lease.cancelRequested }

    /// Where a peer stands in the session.
    public func place(of peerId: String) -> SessionPeer? { index(peerId).map { session.peers[$0] } }

    /// Whether this DONE is stored already.
    public func isRepeat(_ event: DoneEvent) -> Bool {
        guard let index = index(event.peerId), let answer = session.peers[index].answer else { return false }
        return answer.workRound ?? answer.round == event.round && event.generation <= session.generation && answer.update == event.update
    }

    /// Whether this DONE answers what its peer was asked for last, and nothing was accepted for that yet.
    public func awaits(_ event: DoneEvent) -> Bool {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId) else {
            return false
        }
        return session.peers[index].state == .training && event.attempt ?? session.peers[index].attempt == session.peers[index].attempt
    }

    /// Why a DONE's numbers are impossible for what was asked; nil when they are possible. (Ranges were checked when it was decoded.)
    public func implausibility(of event: DoneEvent) -> String? {
        guard let index = index(event.peerId) else { return nil }
        let place = session.peers[index]
        let results = event.results
        let rows = place.rowCount
        let epochs = isEvaluation ? 0 : session.settings.hyperparameters(of: place).epochs
        guard (0...epochs).contains(results.epochs), results.samples >= 0, results.samples / max(epochs, 1) <= rows,
            results.samples <= rows.multipliedReportingOverflow(by: epochs).partialValue
        else {
            return "results say \(results.epochs) epochs and \(results.samples) samples; \(epochs) epochs of \(rows) rows were asked for"
        }
        guard results.seconds.isFinite, results.seconds >= 0, results.loss?.isFinite ?? true, results.accuracy?.isFinite ?? true else {
            return "results hold numbers that are not finite"
        }
        for counts in [results.evaluation, results.ownEvaluation].compactMap({ $0 }) {
            let asked = place.validationRows?.count ?? 0
            guard counts.samples == 0 || counts.samples == asked, counts.samples >= 0,
                (0...max(counts.samples, 0)).contains(counts.correct),
                counts.lossSum.isFinite, counts.lossSum >= 0, counts.targetSum.isFinite, counts.targetSquareSum.isFinite
            else { return "an evaluation counts \(counts.samples) rows, \(counts.correct) right; \(asked) rows were asked for" }
        }
        return nil
    }

    /// Seconds after which a peer should answer with what it has, so that one slow machine does not hold the others up, nor a session its
    /// peers; nil where neither is to be feared.
    public func timeLimit(at now: Moment) -> Double? {
        var limit: Double?
        if strategy.leavesOutLate, session.round > 0, let median = deadline.median { limit = max(rules.roundGrace, 2 * median) }
        guard rules.maxRunTime < .infinity, !isEvaluation else { return limit }
        return min(limit ?? .infinity, max(rules.maxRunTime - runTime(at: now), rules.roundGrace))
    }

    /// Seconds within which a peer must give a sign of work; half of its patience, so that a slow network does no harm.
    public var progressWithin: Double { max(rules.progressWait / 2, 0.5) }
}
