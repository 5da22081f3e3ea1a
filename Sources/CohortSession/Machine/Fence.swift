import CohortCore
public import CohortWire

/// Which reports of peers count.
extension SessionMachine {
    /// The result of checking a DONE.
    public enum Verdict: Hashable, Sendable {
        /// It answers the work that was assigned last.
        case current
        /// The same answer is stored already.
        case repeated
        /// It answers an older round, attempt or generation.
        case stale
        /// Its numbers are impossible for the assigned work.
        case implausible(String)
    }

    public func verdict(on event: DoneEvent) -> Verdict {
        if isRepeat(event) { return .repeated }
        guard currentWork(of: event) != nil else { return .stale }
        return implausibility(of: event).map { .implausible($0) } ?? .current
    }

    /// Returns whether a report belongs to the session's generation and to the round of the peer's work.
    public func accepts(generation: Int, round: Int, peerId: String) -> Bool {
        guard let index = index(peerId) else { return false }
        return generation == session.generation && round == session.peers[index].workRound ?? session.round && session.status == .running
    }

    /// The index of the peer whose assigned work the event answers; nil for a stale event.
    func currentWork(of event: DoneEvent) -> Int? {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training, event.attempt ?? session.peers[index].attempt == session.peers[index].attempt
        else { return nil }
        return index
    }

    private func isRepeat(_ event: DoneEvent) -> Bool {
        guard let index = index(event.peerId), let answer = session.peers[index].answer else { return false }
        return answer.workRound ?? answer.round == event.round && event.generation <= session.generation && answer.update == event.update
    }

    /// Compares a DONE's numbers with what was asked for; their ranges were checked when it was decoded.
    private func implausibility(of event: DoneEvent) -> String? {
        guard let index = index(event.peerId) else { return nil }
        let peer = session.peers[index]
        let results = event.results
        let rows = peer.rowCount
        let epochs = isEvaluation ? 0 : session.settings.hyperparameters(of: peer).epochs
        guard (0...epochs).contains(results.epochs), results.samples >= 0, results.samples / max(epochs, 1) <= rows,
            results.samples <= rows.multipliedReportingOverflow(by: epochs).partialValue
        else {
            return "results say \(results.epochs) epochs and \(results.samples) samples; \(epochs) epochs of \(rows) rows were asked for"
        }
        guard results.seconds.isFinite, results.seconds >= 0, results.loss?.isFinite ?? true, results.accuracy?.isFinite ?? true else {
            return "results hold numbers that are not finite"
        }
        for counts in [results.evaluation, results.ownEvaluation].compactMap({ $0 }) {
            let asked = peer.validationRows?.count ?? 0
            guard counts.samples == 0 || counts.samples == asked, counts.samples >= 0,
                (0...max(counts.samples, 0)).contains(counts.correct),
                counts.lossSum.isFinite, counts.lossSum >= 0, counts.targetSum.isFinite, counts.targetSquareSum.isFinite
            else { return "an evaluation counts \(counts.samples) rows, \(counts.correct) right; \(asked) rows were asked for" }
        }
        return nil
    }
}
