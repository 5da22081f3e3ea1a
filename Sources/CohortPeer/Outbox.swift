import CohortClient
import CohortCore
import Logging
import Synchronization

/// Events on their way to the coordinator, in order. Adding never waits, so that training does not; what cannot be sent now is kept
/// until it can, or until nobody wants it any more.
final class Outbox: Sendable {
    /// Reports kept while they cannot be sent; of more, the oldest are dropped: the newest says where training stands.
    static let heartbeatLimit = 16

    struct Entry: Sendable {
        var number: Int
        var event: PeerEvent
    }

    private struct State {
        var entries: [Entry] = []
        var count = 0
        var wake: AsyncStream<Void>.Continuation?
    }

    private let state = Mutex(State())
    private let logger: Logger

    init(logger: Logger) { self.logger = logger }

    /// What is still to be sent.
    var pending: [PeerEvent] { state.withLock { $0.entries.map(\.event) } }

    func add(_ event: PeerEvent) {
        state.withLock { state in
            state.entries.append(Entry(number: state.count, event: event))
            state.count += 1
            let heartbeats = state.entries.indices.filter { state.entries[$0].event.isHeartbeat }
            if heartbeats.count > Self.heartbeatLimit { state.entries.remove(at: heartbeats[0]) }
            state.wake?.yield()
        }
    }

    /// Forgets what was to be said to a session that is over.
    func drop(sessionId: String) {
        state.withLock { $0.entries.removeAll { $0.event.sessionId == sessionId } }
    }

    /// Sends until the task is cancelled.
    /// - Throws: `unauthenticated` or `forbidden` when the server refuses this peer; `CancellationError`.
    func deliver(through broker: any Broker) async throws {
        // Buffers one signal: it says only that there is something.
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        state.withLock { $0.wake = wake }
        wake.yield()
        for await _ in signals {
            while let entry = state.withLock({ $0.entries.first }) { try await send(entry, through: broker) }
        }
        try Task.checkCancellation()
    }

    private func send(_ first: Entry, through broker: any Broker) async throws {
        var backoff = Backoff(first: 0.1, longest: 2)
        var unknown = 0
        var hasComplained = false
        // After each wait it is looked up again: it may have been dropped meanwhile.
        while let entry = state.withLock({ $0.entries.first }), entry.number == first.number {
            do {
                try await broker.publish(CohortJSON.encode(entry.event), to: .events(sessionId: entry.event.sessionId))
                return remove(entry)
            } catch let error as CohortError {
                switch error.code {
                case .conflict:
                    logger.info("\(entry.event.name) is not wanted any more, dropped: \(error)")
                    return remove(entry)
                case .invalid, .tooLarge:
                    logger.error("\(entry.event.name) was refused, dropped: \(error)")
                    return remove(entry)
                case .unauthenticated, .forbidden:
                    throw error
                case .notFound where unknown >= 10:
                    logger.error("\(entry.event.name) finds no session, dropped: \(error)")
                    return remove(entry)
                case .notFound:
                    // The server lost this peer: the next beat registers it again.
                    unknown += 1
                case .unavailable, .internal, .storageFull:
                    if !hasComplained { logger.warning("\(entry.event.name) cannot be sent now, trying until it can: \(error)") }
                    hasComplained = true
                }
                try await Task.sleep(for: backoff.next())
            }
        }
    }

    private func remove(_ entry: Entry) {
        state.withLock { state in state.entries.removeAll { $0.number == entry.number } }
    }
}

extension PeerEvent {
    var isHeartbeat: Bool { if case .heartbeat = self { true } else { false } }

    /// As the wire calls it.
    var name: String {
        switch self {
        case .enabled: "ENABLED"
        case .heartbeat: "HEARTBEAT"
        case .done: "DONE"
        case .error: "ERROR"
        }
    }
}
