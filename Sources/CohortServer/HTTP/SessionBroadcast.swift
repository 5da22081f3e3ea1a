import AsyncAlgorithms
import CohortCore
import CohortWire
import FoundationEssentials
import NIOCore
import ServiceLifecycle
import Synchronization

/// A session's notices for many viewers: each is encoded once, and those that come close together go out together, so that a viewer costs a
/// few writes a second however fast the session runs.
final class SessionBroadcast: Service {
    /// Seconds between two deliveries, unless the status changed.
    private static let pause = 0.1

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

    private struct Channel {
        var viewers: [String: AsyncStream<Chunk>.Continuation] = [:]
        var pending = Chunk()
        /// A delivery of the pending events is scheduled.
        var isScheduled = false
        var delivered = -Double.infinity
        /// The feed is subscribed to: from now on every notice is seen.
        var isOpen = false
        /// Viewers that wait until it is open.
        var waiting: [CheckedContinuation<Void, Never>] = []
        /// Ends the channel's task.
        let stop: AsyncStream<Step>.Continuation

        /// - Returns: the seconds after which it must be delivered; nil: no delivery is needed.
        mutating func append(_ event: Chunk.Event, now: Double) -> Double? {
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

    private enum Step: Sendable {
        case notice(SessionNotice)
        case stop
    }

    private struct State {
        var channels: [String: Channel] = [:]
        var hasEnded = false
    }

    private let feed: any SessionFeed
    private let time: any TimeSource
    private let state = Mutex(State())
    /// Channels to be run: a session and the end of its channel. As many as sessions are watched.
    private let (openings, open) = AsyncStream.makeStream(
        of: (sessionId: String, stops: AsyncStream<Step>).self, bufferingPolicy: .unbounded)

    init(feed: any SessionFeed, time: any TimeSource) {
        self.feed = feed
        self.time = time
    }

    /// Runs the channels until the server stops.
    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                for await (sessionId, stops) in openings {
                    group.addTask { await self.runChannel(of: sessionId, until: stops) }
                }
                group.cancelAll()
            }
        }
        let channels = state.withLock { state in
            state.hasEnded = true
            defer { state.channels = [:] }
            return state.channels.values
        }
        for channel in channels {
            for waiter in channel.waiting { waiter.resume() }
            for viewer in channel.viewers.values { viewer.finish() }
        }
    }

    /// A session's notices from when this returns. Buffers the newest 1,000 chunks.
    func subscribe(sessionId: String) async -> AsyncStream<Chunk> {
        let (stream, continuation) = AsyncStream<Chunk>.makeStream(bufferingPolicy: .bufferingNewest(1_000))
        let viewer = newIdentifier()
        // Not from within the end itself: a cancellation holds a lock of the viewer's task, which a delivery, under this lock, needs as well.
        continuation.onTermination = { [weak self] _ in Task { self?.leave(sessionId, viewer: viewer) } }
        await withCheckedContinuation { waiter in
            let isReady = state.withLock { state in
                guard !state.hasEnded else { return true }
                if state.channels[sessionId] == nil {
                    let (stops, stop) = AsyncStream.makeStream(of: Step.self, bufferingPolicy: .bufferingOldest(1))
                    state.channels[sessionId] = Channel(stop: stop)
                    open.yield((sessionId, stops))
                }
                // Earlier notices are not for this viewer.
                state.channels[sessionId]?.deliver(now: time.monotonic)
                state.channels[sessionId]?.viewers[viewer] = continuation
                guard state.channels[sessionId]?.isOpen == false else { return true }
                state.channels[sessionId]?.waiting.append(waiter)
                return false
            }
            if isReady { waiter.resume() }
        }
        // Outside the lock: ending a stream calls back.
        if state.withLock({ $0.hasEnded }) { continuation.finish() }
        return stream
    }

    private func leave(_ sessionId: String, viewer: String) {
        let stop = state.withLock { state in
            state.channels[sessionId]?.viewers[viewer] = nil
            guard let channel = state.channels[sessionId], channel.viewers.isEmpty, channel.isOpen else {
                return nil as AsyncStream<Step>.Continuation?
            }
            state.channels[sessionId] = nil
            return channel.stop
        }
        stop?.yield(.stop)
    }

    private func runChannel(of sessionId: String, until stops: AsyncStream<Step>) async {
        let notices = await feed.subscribe(sessionId: sessionId)
        let isWatched = state.withLock { state in
            guard let channel = state.channels[sessionId] else { return false }
            for waiter in channel.waiting { waiter.resume() }
            state.channels[sessionId]?.waiting = []
            state.channels[sessionId]?.isOpen = true
            // All viewers have left meanwhile.
            if channel.viewers.isEmpty { state.channels[sessionId] = nil }
            return !channel.viewers.isEmpty
        }
        guard isWatched else { return }
        await withDiscardingTaskGroup { group in
            for await step in merge(notices.map { Step.notice($0) }, stops) {
                guard case .notice(let notice) = step else { break }
                // A notice that cannot be encoded is dropped.
                guard let data = try? CohortJSON.encode(notice) else { continue }
                let event = Chunk.Event(notice: notice, buffer: StreamedEvent(id: nil, name: notice.kind.rawValue, data: data).buffer)
                let now = time.monotonic
                guard let wait = state.withLock({ $0.channels[sessionId]?.append(event, now: now) ?? nil }) else { continue }
                group.addTask {
                    // When it is cancelled, it delivers at once.
                    try? await self.time.sleep(seconds: wait)
                    self.state.withLock { state in
                        state.channels[sessionId]?.isScheduled = false
                        state.channels[sessionId]?.deliver(now: self.time.monotonic)
                    }
                }
            }
            group.cancelAll()
        }
    }
}
