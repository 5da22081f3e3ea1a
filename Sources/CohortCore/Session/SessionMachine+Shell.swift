extension SessionMachine {
    /// The lease was renewed or taken anew: the store's generation, lease and wishes are this document's now.
    public mutating func take(over stored: Session) {
        if stored.generation > session.generation {
            // Raised while it runs: what was answered to the round so far does not count for its new beginning.
            session.answersFrom = stored.generation
            change(true)
        }
        session.generation = stored.generation
        session.lease = stored.lease
        session.revision = stored.revision
        session.cancelRequested = stored.cancelRequested
    }

    /// Where a peer stands in the session.
    public func index(of peerId: String) -> Int? { index(peerId) }

    /// Whether this DONE is stored already.
    public func isRepeat(_ event: DoneEvent) -> Bool {
        guard let index = index(event.peerId), let answer = session.peers[index].answer else { return false }
        return answer.round == event.round && event.generation <= session.generation && answer.update == event.update
    }

    /// Why a DONE's numbers cannot be; nil when they can. A peer may be anybody's program: sums must not overflow with what it says.
    public func implausibility(of event: DoneEvent) -> String? {
        guard let index = index(event.peerId) else { return nil }
        let place = session.peers[index]
        let results = event.results
        let rows = place.rows.reduce(0) { $0 + $1.count }
        let epochs = session.settings.hyperparameters(peerId: place.id, name: place.name).epochs
        guard (0...epochs).contains(results.epochs), (0...(rows * epochs)).contains(results.samples) else {
            return "results say \(results.epochs) epochs and \(results.samples) samples; \(epochs) epochs of \(rows) rows were asked for"
        }
        guard results.seconds.isFinite, results.seconds >= 0, results.loss?.isFinite ?? true, results.accuracy?.isFinite ?? true else {
            return "results hold numbers that are not finite"
        }
        for counts in [results.evaluation, results.ownEvaluation].compactMap({ $0 }) {
            let asked = place.validationRows?.count ?? 0
            guard (0...asked).contains(counts.samples), (0...counts.samples).contains(counts.correct), counts.lossSum.isFinite,
                counts.targetSum.isFinite, counts.targetSquareSum.isFinite
            else { return "an evaluation counts \(counts.samples) rows, \(counts.correct) right; \(asked) rows were asked for" }
        }
        return nil
    }

    /// Seconds after which a peer should answer with what it has, so that one slow machine does not hold the others up; nil before there is
    /// a median.
    public var timeLimit: Double? {
        guard strategy.synchronous, let median = deadline.median else { return nil }
        return max(rules.roundGrace, 2 * median)
    }
}
