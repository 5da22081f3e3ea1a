public import CohortCore
public import CohortWire
import DequeModule
import FoundationEssentials
import Synchronization

/// The broker inside the server, with queues in memory. The session's document holds what must survive a restart, and the sender of an event that is not
/// answered receives an error.
///
/// Commands wait until they are acknowledged. An event is taken over when its consumer has acknowledged it: until then its publisher
/// waits, so an event is never only here.
public final class EmbeddedBroker: CoordinatorTransport, PeerGateway {
    /// Sessions whose STOP may wait for one peer; of more, the oldest are dropped: such a peer has been away for long.
    static let maxWaiting = 64

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
    ///   - takenWithin: how long an event waits for a consumer of its queue.
    ///   - answeredWithin: how long its consumer may take.
    public init(takenWithin: Duration = .milliseconds(500), answeredWithin: Duration = .seconds(30)) {
        self.takenWithin = takenWithin
        self.answeredWithin = answeredWithin
    }

    public func open(_ queue: QueueName) async throws {
        state.withLock { state in
            if state.queues[queue] == nil { state.queues[queue] = MessageQueue() }
        }
    }

    public func send(_ command: Command, to peerId: String) async throws {
        let body = try CohortJSON.encode(command)
        let queue = QueueName.command(peerId: peerId)
        state.withLock { state in
            let id = state.newId()
            var waiting = state.queues[queue] ?? MessageQueue()
            waiting.replace(with: command)
            if waiting.messages.count >= Self.maxWaiting { waiting.messages.removeFirst(waiting.messages.count - Self.maxWaiting + 1) }
            waiting.append(body, id: id, command: command.kind, sender: nil, receipt: nil)
            state.queues[queue] = waiting
        }
    }

    public func events(of queue: QueueName) async throws -> AsyncThrowingStream<ReceivedEvent, any Error> {
        // The queue has as many: their senders wait.
        let (stream, continuation) = AsyncThrowingStream<ReceivedEvent, any Error>.makeStream(bufferingPolicy: .unbounded)
        attach(
            to: queue,
            deliver: { [self] message in
                continuation.yield(
                    ReceivedEvent(body: message.body, sender: message.sender ?? "") { settlement in
                        switch settlement {
                        case .accepted, .refused: self.settle(message.id, in: queue, .success(()))
                        case .released: self.state.withLock { $0.queues[queue]?.deliverAgain(message.id) }
                        }
                    })
            },
            end: { continuation.finish() },
            onTermination: { handler in continuation.onTermination = { _ in handler() } })
        return stream
    }

    public func admit(peerId: String, registration: Int) async throws -> BrokerAddress? { nil }

    public func isConsumed(_ queue: QueueName) async -> Bool { state.withLock { $0.queues[queue]?.consumer != nil } }

    public func forget(peer peerId: String) async throws { try await close(.command(peerId: peerId)) }

    public func close(_ queue: QueueName) async throws {
        let deleted = state.withLock { $0.queues.removeValue(forKey: queue) }
        deleted?.consumer?.end()
        for message in deleted?.messages ?? [] {
            message.receipt?.settle(.failure(CohortError(.unavailable, "\(queue) was deleted before anybody took the message")))
        }
    }

    // MARK: Commands over HTTP

    public func commands(of peerId: String) async throws -> AsyncThrowingStream<QueuedCommand, any Error> {
        // The queue holds at most ``maxWaiting``.
        let (stream, continuation) = AsyncThrowingStream<QueuedCommand, any Error>.makeStream(bufferingPolicy: .unbounded)
        attach(
            to: .command(peerId: peerId),
            deliver: { continuation.yield(QueuedCommand(id: $0.id, body: $0.body)) },
            end: { continuation.finish() },
            onTermination: { handler in continuation.onTermination = { _ in handler() } })
        return stream
    }

    public func acknowledge(peerId: String, through id: Int) async throws {
        state.withLock { $0.queues[.command(peerId: peerId)]?.messages.removeAll { $0.id <= id } }
    }

    public func publish(_ messages: [[UInt8]], from peerId: String, to queue: QueueName) async throws {
        guard !queue.isForCommands else { throw CohortError(.invalid, "\(queue) takes commands, not events") }
        let receipts = messages.map { _ in Receipt() }
        let ids = state.withLock { state in
            zip(messages, receipts).map { message, receipt in
                let id = state.newId()
                state.queues[queue, default: MessageQueue()].append(message, id: id, command: nil, sender: peerId, receipt: receipt)
                return id
            }
        }
        try await withTaskCancellationHandler {
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await self.settleUnanswered(ids, in: queue) }
                defer { tasks.cancelAll() }
                for receipt in receipts { try await receipt.outcome().get() }
            }
        } onCancel: {
            for id in ids { settle(id, in: queue, .failure(CancellationError())) }
        }
    }

    // MARK: -

    /// Settles events without a consumer or without an answer; ends when cancelled.
    private func settleUnanswered(_ ids: [Int], in queue: QueueName) async throws {
        let deadline = ContinuousClock.now + answeredWithin
        while true {
            try await Task.sleep(for: takenWithin)
            let isLate = ContinuousClock.now >= deadline
            let left = ids.filter { id in isLate || state.withLock { $0.queues[queue]?.isUntaken(id) == true } }
            for id in left {
                settle(
                    id, in: queue, .failure(CohortError(.unavailable, "no coordinator takes events of \(queue) just now: send it again")))
            }
        }
    }

    private func settle(_ id: Int, in queue: QueueName, _ outcome: Receipt.Outcome) {
        state.withLock { $0.queues[queue]?.remove(id) }?.receipt?.settle(outcome)
    }

    private func attach(
        to queue: QueueName, deliver: @escaping @Sendable (MessageQueue.Message) -> Void, end: @escaping @Sendable () -> Void,
        onTermination: (@escaping @Sendable () -> Void) -> Void
    ) {
        let token = newIdentifier()
        // Not from within the end itself: that holds a lock of the task which a delivery, under this broker's lock, needs as well.
        onTermination { [weak self] in
            Task { self?.state.withLock { $0.queues[queue]?.detach(token) } }
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
