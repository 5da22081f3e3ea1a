public import CohortCore
import Synchronization

/// Queues in memory: what the port means, in the fewest lines. For tests.
public final class MemoryBroker: Broker {
    private struct Message {
        let id: Int
        let body: [UInt8]
        /// What it is, for a command.
        let kind: String?
        let sessionId: String?
        /// Tells the publisher of an event what became of it.
        let settled: AsyncStream<CohortError?>.Continuation?
    }

    private struct Queue {
        var messages: [Message] = []
        var consumer: (number: Int, continuation: AsyncThrowingStream<Delivery, any Error>.Continuation)?
    }

    private struct State {
        var queues: [QueueName: Queue] = [:]
        var count = 0
    }

    private let state = Mutex(State())

    public init() {}

    public func declare(_ queue: QueueName) async throws {
        state.withLock { state in
            if state.queues[queue] == nil { state.queues[queue] = Queue() }
        }
    }

    public func send(_ command: Command, to peerId: String) async throws {
        let body = try CohortJSON.encode(command)
        let kind =
            switch command {
            case .enable: "ENABLE"
            case .train: "TRAIN"
            case .refused: "REFUSED"
            case .stop: "STOP"
            }
        state.withLock { state in
            state.queues[.command(peerId: peerId)]?.messages.removeAll { message in
                message.sessionId == command.sessionId && (message.kind == kind || kind == "STOP")
            }
            add(body, kind: kind, sessionId: command.sessionId, settled: nil, to: .command(peerId: peerId), &state)
        }
    }

    public func publish(_ messages: [[UInt8]], to queue: QueueName) async throws -> [CohortError?] {
        guard queue.rawValue.hasPrefix("coordinator.") else { throw CohortError(.invalid, "\(queue) takes commands, not events") }
        guard state.withLock({ $0.queues[queue]?.consumer != nil }) else {
            throw CohortError(.unavailable, "no coordinator takes events of \(queue) just now: send it again")
        }
        var outcomes: [CohortError?] = []
        for body in messages {
            let (stream, settled) = AsyncStream.makeStream(of: CohortError?.self)
            state.withLock { add(body, kind: nil, sessionId: nil, settled: settled, to: queue, &$0) }
            var iterator = stream.makeAsyncIterator()
            guard let outcome = await iterator.next() else { throw CohortError(.unavailable, "\(queue) is gone: send it again") }
            outcomes.append(outcome)
        }
        return outcomes
    }

    private func add(
        _ body: [UInt8], kind: String?, sessionId: String?, settled: AsyncStream<CohortError?>.Continuation?, to queue: QueueName,
        _ state: inout State
    ) {
        state.count += 1
        let message = Message(id: state.count, body: body, kind: kind, sessionId: sessionId, settled: settled)
        state.queues[queue, default: Queue()].messages.append(message)
        if let consumer = state.queues[queue]?.consumer { consumer.continuation.yield(delivery(message, of: queue)) }
    }

    public func consume(_ queue: QueueName) async throws -> AsyncThrowingStream<Delivery, any Error> {
        let (stream, continuation) = AsyncThrowingStream<Delivery, any Error>.makeStream()
        let (number, older) = state.withLock { state in
            state.count += 1
            let number = state.count
            let older = state.queues[queue]?.consumer?.continuation
            state.queues[queue, default: Queue()].consumer = (number, continuation)
            for message in state.queues[queue]?.messages ?? [] { continuation.yield(delivery(message, of: queue)) }
            return (number, older)
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { state in
                if state.queues[queue]?.consumer?.number == number { state.queues[queue]?.consumer = nil }
            }
        }
        older?.finish()
        return stream
    }

    public func delete(_ queue: QueueName) async throws {
        let deleted = state.withLock { $0.queues.removeValue(forKey: queue) }
        deleted?.consumer?.continuation.finish()
        for message in deleted?.messages ?? [] { message.settled?.finish() }
    }

    /// How many messages wait.
    public func count(_ queue: QueueName) -> Int { state.withLock { $0.queues[queue]?.messages.count ?? 0 } }

    private func delivery(_ message: Message, of queue: QueueName) -> Delivery {
        Delivery(body: message.body, redelivered: false) { [weak self] in
            self?.settle(message.id, of: queue, nil)
        } reject: { [weak self] reason in
            self?.settle(message.id, of: queue, reason)
        }
    }

    private func settle(_ id: Int, of queue: QueueName, _ outcome: CohortError?) {
        let message = state.withLock { state in
            state.queues[queue]?.messages.firstIndex { $0.id == id }.flatMap { state.queues[queue]?.messages.remove(at: $0) }
        }
        message?.settled?.yield(outcome)
        message?.settled?.finish()
    }
}
