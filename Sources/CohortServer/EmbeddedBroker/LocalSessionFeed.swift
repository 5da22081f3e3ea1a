import CohortCore
public import CohortWire
import Synchronization

/// Notices within one process.
public final class LocalSessionFeed: SessionFeed {
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
}
