import FoundationEssentials

/// Passes notices from coordinators to watchers.
public protocol SessionFeed: Sendable {
    func publish(_ notice: SessionNotice) async
    /// Notices of one session from now on. Buffers the newest 1,000: a watcher that is slower misses the oldest, and reads the
    /// document for the truth.
    func subscribe(sessionId: String) async -> AsyncStream<SessionNotice>
    /// Tells watchers of the pool that peers joined, left, were locked to a session or freed.
    func poolChanged() async
    /// One element after one or more changes of the pool: a watcher then reads the peers.
    func poolChanges() async -> AsyncStream<Void>
}
