import CohortCore
public import CohortWire
import Synchronization

/// Notices within one process.
public final class LocalSessionFeed: SessionFeed {
    private let poolWatchers = Mutex<[String: AsyncStream<Void>.Continuation]>([:])
    private let watchers = Mutex<[String: [String: AsyncStream<SessionNotice>.Continuation]]>([:])

    public init() {}

    public func publish(_ notice: SessionNotice) async {
        let continuations = watchers.withLock { Array(($0[notice.sessionId] ?? [:]).values) }
        for continuation in continuations { continuation.yield(notice) }
    }

    public func subscribe(sessionId: String) async -> AsyncStream<SessionNotice> {
        let (stream, continuation) = AsyncStream<SessionNotice>.makeStream(bufferingPolicy: .bufferingNewest(1_000))
        let token = newIdentifier()
        continuation.onTermination = { [weak self] _ in
            self?.watchers.withLock { watchers in
                watchers[sessionId]?[token] = nil
                if watchers[sessionId]?.isEmpty == true { watchers[sessionId] = nil }
            }
        }
        watchers.withLock { $0[sessionId, default: [:]][token] = continuation }
        return stream
    }

    public func poolChanged() async {
        for continuation in poolWatchers.withLock({ Array($0.values) }) { continuation.yield() }
    }

    public func poolChanges() async -> AsyncStream<Void> {
        // Changes that come together are one.
        let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let token = newIdentifier()
        continuation.onTermination = { [weak self] _ in self?.poolWatchers.withLock { $0[token] = nil } }
        poolWatchers.withLock { $0[token] = continuation }
        return stream
    }
}
