public import CohortCore
import FoundationEssentials
import Synchronization

/// The broker inside the server: queues in memory. What must survive a restart is in the session's document, and whoever waits for an
/// answer is told when there is none.
///
/// Commands wait until they are acknowledged. An event is taken over when its consumer has acknowledged it: until then its publisher
/// waits, so an event is never only here.
public final class EmbeddedBroker: Broker {
    /// Commands that may wait for one peer.
    static let longestQueue = 1_000

    private struct State {
        var queues: [QueueName: MessageQueue] = [:]
        /// Ids rise over restarts as well (they begin at the microseconds since 1970), or a peer that goes on from the last id it knows
        /// would acknowledge commands it has never seen.
        private var lastId = Int(Date.now.timeIntervalSince1970 * 1e6)

        mutating func newId() -> Int {
            lastId += 1
            return lastId
        }
    }

    private let state = Mutex(State())
    private let takenWithin: Duration
    private let answeredWithin: Duration

    /// - Parameters:
    ///   - takenWithin: how long an event waits for somebody who consumes its queue.
    ///   - answeredWithin: how long its consumer may take.
    public init(takenWithin: Duration = .milliseconds(500), answeredWithin: Duration = .seconds(30)) {
        self.takenWithin = takenWithin
        self.answeredWithin = answeredWithin
    }

    public func declare(_ queue: QueueName) async throws {
        state.withLock { state in
            if state.queues[queue] == nil { state.queues[queue] = MessageQueue() }
        }
    }

    public func publish(_ message: [UInt8], to queue: QueueName) async throws {
        if queue.isForCommands {
            try state.withLock { state in
                guard state.queues[queue]?.messages.count ?? 0 < Self.longestQueue else {
                    throw CohortError(.unavailable, "\(Self.longestQueue) commands wait in \(queue): the peer takes none")
                }
                let id = state.newId()
                state.queues[queue, default: MessageQueue()].append(message, id: id, waiter: nil)
            }
        } else {
            try await publishAndWait(message, to: queue)
        }
    }

    /// A newer consumer of a queue ends the older one.
    public func consume(_ queue: QueueName) async throws -> AsyncThrowingStream<Delivery, any Error> {
        let (stream, continuation) = AsyncThrowingStream<Delivery, any Error>.makeStream()
        attach(
            to: queue,
            deliver: { [self] message in
                continuation.yield(
                    Delivery(body: message.body, redelivered: message.redelivered) {
                        self.settle(message.id, in: queue, .success(()))
                    } reject: { reason in
                        self.settle(message.id, in: queue, .failure(reason))
                    })
            },
            end: { continuation.finish() },
            onTermination: { handler in continuation.onTermination = { _ in handler() } })
        return stream
    }

    public func delete(_ queue: QueueName) async throws {
        let deleted = state.withLock { $0.queues.removeValue(forKey: queue) }
        deleted?.consumer?.end()
        for message in deleted?.messages ?? [] {
            message.waiter?.resume(throwing: CohortError(.unavailable, "\(queue) was deleted before anybody took the message"))
        }
    }

    // MARK: Commands over HTTP

    /// The peer's commands from the first that is not acknowledged on. A newer stream of the peer ends the older one.
    func commands(peerId: String) -> AsyncStream<StreamedEvent> {
        let (stream, continuation) = AsyncStream<StreamedEvent>.makeStream()
        attach(
            to: .command(peerId: peerId),
            deliver: { continuation.yield(StreamedEvent(id: $0.id, data: $0.body)) },
            end: { continuation.finish() },
            onTermination: { handler in continuation.onTermination = { _ in handler() } })
        return stream
    }

    /// Takes away the peer's commands up to and including `id`.
    func acknowledge(peerId: String, through id: Int) {
        state.withLock { $0.queues[.command(peerId: peerId)]?.messages.removeAll { $0.id <= id } }
    }

    // MARK: -

    private func publishAndWait(_ message: [UInt8], to queue: QueueName) async throws {
        let id = state.withLock { $0.newId() }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask { [self] in
                try await answer(to: message, id: id, in: queue)
                return true
            }
            group.addTask { [self] in
                let deadline = ContinuousClock.now + answeredWithin
                while ContinuousClock.now < deadline {
                    try await Task.sleep(for: takenWithin)
                    guard state.withLock({ $0.queues[queue]?.isTaken(id) }) == true else { break }
                }
                settle(
                    id, in: queue, .failure(CohortError(.unavailable, "no coordinator takes events of \(queue) just now: send it again")))
                return false
            }
            defer { group.cancelAll() }
            while let isAnswer = try await group.next(), !isAnswer {}
        }
    }

    /// Puts the message into the queue and waits until it is settled.
    private func answer(to message: [UInt8], id: Int, in queue: QueueName) async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiter in
                state.withLock { $0.queues[queue, default: MessageQueue()].append(message, id: id, waiter: waiter) }
                // Cancelled before it was there to be found.
                if Task.isCancelled { settle(id, in: queue, .failure(CancellationError())) }
            }
        } onCancel: {
            settle(id, in: queue, .failure(CancellationError()))
        }
    }

    private func settle(_ id: Int, in queue: QueueName, _ outcome: Result<Void, any Error>) {
        state.withLock { $0.queues[queue]?.remove(id) }?.waiter?.resume(with: outcome)
    }

    private func attach(
        to queue: QueueName, deliver: @escaping @Sendable (MessageQueue.Message) -> Void, end: @escaping @Sendable () -> Void,
        onTermination: (@escaping @Sendable () -> Void) -> Void
    ) {
        let token = newIdentifier()
        onTermination { [weak self] in
            self?.state.withLock { $0.queues[queue]?.detach(token) }
        }
        // Delivered under the lock, so that what is published meanwhile comes after what waits.
        let older = state.withLock { state in
            state.queues[queue, default: MessageQueue()].attach(MessageQueue.Consumer(token: token, deliver: deliver, end: end))
        }
        // Outside the lock: the end of a stream calls back.
        older?.end()
    }
}

extension QueueName {
    var isForCommands: Bool { rawValue.hasPrefix("peer.") }
}
