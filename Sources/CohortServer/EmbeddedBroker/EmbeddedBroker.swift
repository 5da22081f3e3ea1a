public import CohortCore
import FoundationEssentials
import Synchronization

/// The broker inside the server: queues in memory. What must survive a restart is in the session's document, and whoever waits for an
/// answer is told when there is none.
///
/// Commands wait until they are acknowledged. An event is taken over when its consumer has acknowledged it: until then its publisher
/// waits, so an event is never only here.
public final class EmbeddedBroker: Broker {
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

    public func send(_ command: Command, to peerId: String) async throws {
        let body = try CohortJSON.encode(command)
        let queue = QueueName.command(peerId: peerId)
        state.withLock { state in
            let id = state.newId()
            var waiting = state.queues[queue] ?? MessageQueue()
            waiting.replace(with: command)
            if waiting.messages.count >= Self.maxWaiting { waiting.messages.removeFirst(waiting.messages.count - Self.maxWaiting + 1) }
            waiting.append(body, id: id, command: command.kind, receipt: nil)
            state.queues[queue] = waiting
        }
    }

    public func publish(_ messages: [[UInt8]], to queue: QueueName) async throws -> [CohortError?] {
        guard !queue.isForCommands else { throw CohortError(.invalid, "\(queue) takes commands, not events") }
        return try await publishEvents(messages, to: queue)
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

    /// Whether somebody takes the queue's messages now.
    func isConsumed(_ queue: QueueName) -> Bool { state.withLock { $0.queues[queue]?.consumer != nil } }

    public func delete(_ queue: QueueName) async throws {
        let deleted = state.withLock { $0.queues.removeValue(forKey: queue) }
        deleted?.consumer?.end()
        for message in deleted?.messages ?? [] {
            message.receipt?.settle(.failure(CohortError(.unavailable, "\(queue) was deleted before anybody took the message")))
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

    private func publishEvents(_ messages: [[UInt8]], to queue: QueueName) async throws -> [CohortError?] {
        let receipts = messages.map { _ in Receipt() }
        let ids = state.withLock { state in
            zip(messages, receipts).map { message, receipt in
                let id = state.newId()
                state.queues[queue, default: MessageQueue()].append(message, id: id, command: nil, receipt: receipt)
                return id
            }
        }
        return try await withTaskCancellationHandler {
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask { try await self.giveUp(ids, in: queue) }
                defer { tasks.cancelAll() }
                var refusals: [CohortError?] = []
                for receipt in receipts {
                    do {
                        try await receipt.outcome().get()
                        refusals.append(nil)
                    } catch let error as CohortError where error.code != .unavailable {
                        refusals.append(error)
                    }
                }
                return refusals
            }
        } onCancel: {
            for id in ids { settle(id, in: queue, .failure(CancellationError())) }
        }
    }

    /// Settles events that nobody consumes, or that their consumer does not answer; ends when cancelled.
    private func giveUp(_ ids: [Int], in queue: QueueName) async throws {
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
