import CohortClient
import CohortCore
import CohortSystem
import CohortWire
import Logging
import Synchronization

/// The ordered queue of events for the coordinator. Adding never waits, so that training does not; events are kept until
/// they are sent or no longer needed.
final class Outbox: Sendable {
    /// The maximum number of unsent reports; the oldest are dropped, as the newest shows the state of training.
    static let heartbeatLimit = 512
    /// Events of one request.
    static let maxBatch = 64
    /// The time that a report waits for the next event, to be sent in one request.
    static let linger = Duration.milliseconds(100)

    struct Entry: Sendable {
        var number: Int
        var event: PeerEvent
    }

    private struct State {
        var entries: [Entry] = []
        var count = 0
        /// Entries below this number are due.
        var due = 0
        var wake: AsyncStream<Void>.Continuation?
        var hold: AsyncStream<Int>.Continuation?
    }

    private let state = Mutex(State())
    private let logger: Logger

    init(logger: Logger) { self.logger = logger }

    /// The unsent events.
    var pending: [PeerEvent] { state.withLock { $0.entries.map(\.event) } }

    /// - Parameter isFollowed: another event comes at once, and this one may wait for it.
    func add(_ event: PeerEvent, isFollowed: Bool = false) {
        state.withLock { state in
            state.entries.append(Entry(number: state.count, event: event))
            state.count += 1
            let heartbeats = state.entries.indices.filter { state.entries[$0].event.isReport }
            if heartbeats.count > Self.heartbeatLimit { state.entries.remove(at: heartbeats[0]) }
            if isFollowed, let hold = state.hold {
                hold.yield(state.count)
            } else {
                state.due = state.count
                state.wake?.yield()
            }
        }
    }

    /// Forgets what was to be said to a session that is over.
    func drop(sessionId: String) {
        state.withLock { $0.entries.removeAll { $0.event.sessionId == sessionId } }
    }

    /// Sends until the task is cancelled.
    /// - Throws: `unauthenticated` or `forbidden` when the server refuses this peer; `CancellationError`.
    func deliver(through transport: any PeerTransport) async throws {
        // Buffers one signal: it says only that there is something.
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let (held, hold) = AsyncStream.makeStream(of: Int.self, bufferingPolicy: .bufferingNewest(1))
        state.withLock { state in
            state.wake = wake
            state.hold = hold
            state.due = state.count
        }
        wake.yield()
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                for await number in held {
                    try await Task.sleep(for: Self.linger)
                    self.state.withLock { $0.due = max($0.due, number) }
                    wake.yield()
                }
            }
            defer { tasks.cancelAll() }
            for await _ in signals {
                while let batch = nextBatch() { try await send(batch, through: transport) }
            }
        }
        try Task.checkCancellation()
    }

    /// The oldest entries that are due, all of one session; nil when there are none.
    private func nextBatch() -> ArraySlice<Entry>? {
        state.withLock { state in
            guard let first = state.entries.first, first.number < state.due else { return nil }
            return state.entries.prefix { $0.event.sessionId == first.event.sessionId }.prefix(Self.maxBatch)
        }
    }

    private func send(_ batch: ArraySlice<Entry>, through transport: any PeerTransport) async throws {
        guard let session = batch.first?.event.sessionId, let number = batch.first?.number else { return }
        var backoff = Backoff(first: 0.1, longest: 2)
        var unknown = 0
        var hasWarned = false
        // After each wait it is looked up again: it may have been dropped meanwhile.
        while state.withLock({ $0.entries.first?.number }) == number {
            do {
                try await transport.send(batch.map(\.event), to: .events(sessionId: session))
                return remove(batch)
            } catch let error as EncodingError {
                // Nothing of this request was sent.
                logger.error("an event cannot be encoded: \(error)")
                return replaceUnencodable(in: batch)
            } catch let error as CohortError {
                switch error.code {
                case .conflict, .invalid, .tooLarge:
                    for entry in batch { report(error, of: entry) }
                    return remove(batch)
                case .unauthenticated, .forbidden, .invitationRequired:
                    throw error
                case .notFound where unknown >= 10:
                    logger.error("events find no session, dropped: \(error)")
                    return remove(batch)
                case .notFound:
                    // The server lost this peer: the next beat registers it again.
                    unknown += 1
                case .unavailable, .notEnoughPeers, .internal, .storageFull:
                    if !hasWarned { logger.warning("events could not be sent, retrying: \(error)") }
                    hasWarned = true
                }
                try await Task.sleep(for: backoff.next())
            }
        }
    }

    /// Puts an ERROR in the place of each event that cannot be encoded: the session learns what went wrong, and the peer goes on.
    private func replaceUnencodable(in batch: ArraySlice<Entry>) {
        for entry in batch {
            do { _ = try CohortJSON.encode(entry.event) } catch {
                let work = entry.event.work
                let failure = PeerEvent.error(
                    ErrorEvent(
                        sessionId: entry.event.sessionId, peerId: entry.event.peerId, generation: entry.event.generation, round: work.round,
                        message: "\(entry.event.name) holds a number that is not finite: the training diverged. Lower the learning rate",
                        retryable: false))
                state.withLock { state in
                    guard let index = state.entries.firstIndex(where: { $0.number == entry.number }) else { return }
                    state.entries[index].event = failure
                }
            }
        }
    }

    private func report(_ refusal: CohortError, of entry: Entry) {
        if refusal.code == .conflict {
            logger.info("\(entry.event.name) is not wanted any more, dropped: \(refusal)")
        } else {
            logger.error("\(entry.event.name) was refused, dropped: \(refusal)")
        }
    }

    private func remove(_ batch: ArraySlice<Entry>) {
        let sent = Set(batch.map(\.number))
        state.withLock { state in state.entries.removeAll { sent.contains($0.number) } }
    }
}

extension PeerEvent {
    /// The name in messages.
    var name: String {
        switch self {
        case .enabled: "ENABLED"
        case .ready: "READY"
        case .progress: "PROGRESS"
        case .heartbeat: "HEARTBEAT"
        case .done: "DONE"
        case .error: "ERROR"
        }
    }
}
