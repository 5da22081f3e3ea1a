import CohortCore
import CohortWire
import FoundationEssentials
import NIOCore
import Synchronization

/// A session's notices for many viewers: each is encoded once, and those that come close together go out together, so that a viewer costs a
/// few writes a second however fast the session runs.
final class SessionBroadcast: Sendable {
    /// Seconds between two deliveries, unless the status changed.
    fileprivate static let pause = 0.1

    /// Notices that go out together.
    struct Chunk: Sendable {
        struct Event: Sendable {
            var notice: SessionNotice
            var buffer: ByteBuffer
        }

        var events: [Event] = []
        /// All of them, one after the other.
        var buffer = ByteBuffer()

        /// nil when nothing else is left.
        func without(notes said: Set<String>) -> ByteBuffer? {
            guard !said.isEmpty, events.contains(where: { $0.notice.kind == .note && said.contains($0.notice.message) }) else {
                return buffer
            }
            var rest = ByteBuffer()
            for event in events where event.notice.kind != .note || !said.contains(event.notice.message) {
                rest.writeImmutableBuffer(event.buffer)
            }
            return rest.readableBytes > 0 ? rest : nil
        }

        /// The last event ends the session.
        var isFinal: Bool { events.last.map { $0.notice.kind == .status && $0.notice.status?.isFinal == true } ?? false }
    }

    fileprivate struct Channel {
        var viewers: [String: AsyncStream<Chunk>.Continuation] = [:]
        var pending = Chunk()
        /// A delivery of the pending events is scheduled.
        var isScheduled = false
        var delivered = -Double.infinity
        /// Done once the feed is subscribed to; from then on every notice is seen.
        var subscription: Task<Void, Never>
        var pump: Task<Void, Never>?

        /// - Returns: the seconds after which it must be delivered; nil: no delivery is needed.
        mutating func take(_ event: Chunk.Event, now: Double) -> Double? {
            pending.events.append(event)
            pending.buffer.writeImmutableBuffer(event.buffer)
            let left = delivered + SessionBroadcast.pause - now
            if event.notice.kind == .status || left <= 0 {
                deliver(now: now)
                return nil
            }
            defer { isScheduled = true }
            return isScheduled ? nil : left
        }

        mutating func deliver(now: Double) {
            guard !pending.events.isEmpty else { return }
            for viewer in viewers.values { viewer.yield(pending) }
            pending = Chunk()
            delivered = now
        }
    }

    private let feed: any SessionFeed
    private let time: any TimeSource
    private let channels = Mutex<[String: Channel]>([:])

    init(feed: any SessionFeed, time: any TimeSource) {
        self.feed = feed
        self.time = time
    }

    /// A session's notices from when this returns. Buffers the newest 1,000 chunks.
    func subscribe(sessionId: String) async -> AsyncStream<Chunk> {
        let (stream, continuation) = AsyncStream<Chunk>.makeStream(bufferingPolicy: .bufferingNewest(1_000))
        let viewer = newIdentifier()
        continuation.onTermination = { [weak self] _ in self?.leave(sessionId, viewer) }
        let subscription = channels.withLock { channels in
            if channels[sessionId] == nil {
                channels[sessionId] = Channel(subscription: Task { await self.open(sessionId) })
            }
            // What came before is not for it.
            channels[sessionId]?.deliver(now: time.monotonic)
            channels[sessionId]?.viewers[viewer] = continuation
            return channels[sessionId]?.subscription
        }
        await subscription?.value
        return stream
    }

    private func open(_ sessionId: String) async {
        let notices = await feed.subscribe(sessionId: sessionId)
        channels.withLock { channels in
            // All have left meanwhile.
            guard channels[sessionId]?.viewers.isEmpty == false else { return channels[sessionId] = nil }
            channels[sessionId]?.pump = Task { [weak self] in
                for await notice in notices { self?.take(notice) }
            }
        }
    }

    private func leave(_ sessionId: String, _ viewer: String) {
        channels.withLock { channels in
            channels[sessionId]?.viewers[viewer] = nil
            guard let channel = channels[sessionId], channel.viewers.isEmpty, let pump = channel.pump else { return }
            pump.cancel()
            channels[sessionId] = nil
        }
    }

    private func take(_ notice: SessionNotice) {
        // A notice that cannot be encoded is dropped.
        guard let data = try? CohortJSON.encode(notice) else { return }
        let event = Chunk.Event(notice: notice, buffer: StreamedEvent(id: nil, name: notice.kind.rawValue, data: data).buffer)
        let now = time.monotonic
        guard let wait = channels.withLock({ $0[notice.sessionId]?.take(event, now: now) ?? nil }) else { return }
        Task { [time] in
            // Cut short, it is delivered at once.
            try? await time.sleep(seconds: wait)
            self.channels.withLock { channels in
                channels[notice.sessionId]?.isScheduled = false
                channels[notice.sessionId]?.deliver(now: time.monotonic)
            }
        }
    }
}
