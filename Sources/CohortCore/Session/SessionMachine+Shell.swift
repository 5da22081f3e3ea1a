extension SessionMachine {
    /// The lease was renewed or taken anew: the store's generation, lease and wishes are this document's now.
    public mutating func take(over stored: Session) {
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

    /// Seconds after which a peer should answer with what it has, so that one slow machine does not hold the others up; nil before there is
    /// a median.
    public var timeLimit: Double? {
        guard strategy.synchronous, let median = deadline.median else { return nil }
        return max(RoundDeadline.leastGrace, 2 * median)
    }
}
