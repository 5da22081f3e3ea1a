public import CohortCore
public import CohortWire
import Synchronization

/// Queues in memory: what the port means, in the fewest lines. For tests.
public final class MemoryBroker: CoordinatorTransport, PeerGateway {
    private struct Message {
        let id: Int
        let body: [UInt8]
        /// The kind of command.
        let kind: String?
        let sessionId: String?
        /// The peer that an event is from.
        let sender: String?
        /// Tells the publisher of an event that it was settled.
        let settled: AsyncStream<Void>.Continuation?
    }

    private struct Queue {
        var messages: [Message] = []
        var consumer: (number: Int, deliver: @Sendable (Message) -> Void, end: @Sendable () -> Void)?
    }

    private struct State {
        var queues: [QueueName: Queue] = [:]
        var count = 0
    }

    private let state = Mutex(State())

    public init() {}

    public func open(_ queue: QueueName) async throws {
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
            add(body, kind: kind, sessionId: command.sessionId, sender: nil, settled: nil, to: .command(peerId: peerId), &state)
        }
    }

    public func admit(peerId: String, registration: Int) async throws -> BrokerAddress? { nil }

    public func isConsumed(_ queue: QueueName) async -> Bool { state.withLock { $0.queues[queue]?.consumer != nil } }

    public func publish(_ messages: [[UInt8]], from peerId: String, to queue: QueueName) async throws {
        guard queue.rawValue.hasPrefix("coordinator.") else { throw CohortError(.invalid, "\(queue) takes commands, not events") }
        guard await isConsumed(queue) else {
            throw CohortError(.unavailable, "no coordinator takes events of \(queue) just now: send it again")
        }
        for body in messages {
            let (stream, settled) = AsyncStream.makeStream(of: Void.self)
            state.withLock { add(body, kind: nil, sessionId: nil, sender: peerId, settled: settled, to: queue, &$0) }
            var iterator = stream.makeAsyncIterator()
            guard await iterator.next() != nil else { throw CohortError(.unavailable, "\(queue) is gone: send it again") }
        }
    }

    private func add(
        _ body: [UInt8], kind: String?, sessionId: String?, sender: String?, settled: AsyncStream<Void>.Continuation?,
        to queue: QueueName, _ state: inout State
    ) {
        state.count += 1
        let message = Message(id: state.count, body: body, kind: kind, sessionId: sessionId, sender: sender, settled: settled)
        state.queues[queue, default: Queue()].messages.append(message)
        state.queues[queue]?.consumer?.deliver(message)
    }

    public func events(of queue: QueueName) async throws -> AsyncThrowingStream<ReceivedEvent, any Error> {
        consume(queue) { [self] message in
            ReceivedEvent(body: message.body, sender: message.sender ?? "") { settlement in
                if settlement == .released { self.deliverAgain(message.id, of: queue) } else { self.settle(message.id, of: queue) }
            }
        }
    }

    public func commands(of peerId: String) async throws -> AsyncThrowingStream<QueuedCommand, any Error> {
        consume(.command(peerId: peerId)) { QueuedCommand(id: $0.id, body: $0.body) }
    }

    public func acknowledge(peerId: String, through id: Int) async throws {
        state.withLock { $0.queues[.command(peerId: peerId)]?.messages.removeAll { $0.id <= id } }
    }

    private func consume<Element: Sendable>(
        _ queue: QueueName, _ element: @escaping @Sendable (Message) -> Element
    ) -> AsyncThrowingStream<Element, any Error> {
        let (stream, continuation) = AsyncThrowingStream<Element, any Error>.makeStream(bufferingPolicy: .unbounded)
        let (number, older) = state.withLock { state in
            state.count += 1
            let number = state.count
            let older = state.queues[queue]?.consumer
            state.queues[queue, default: Queue()].consumer = (
                number, { continuation.yield(element($0)) }, { continuation.finish() }
            )
            for message in state.queues[queue]?.messages ?? [] { continuation.yield(element(message)) }
            return (number, older)
        }
        continuation.onTermination = { [weak self] _ in
            // Not from within the end itself: that holds a lock which a delivery, under this one, needs as well.
            Task {
                self?.state.withLock { state in
                    if state.queues[queue]?.consumer?.number == number { state.queues[queue]?.consumer = nil }
                }
            }
        }
        older?.end()
        return stream
    }

    public func forget(peer peerId: String) async throws { try await close(.command(peerId: peerId)) }

    public func close(_ queue: QueueName) async throws {
        let deleted = state.withLock { $0.queues.removeValue(forKey: queue) }
        deleted?.consumer?.end()
        for message in deleted?.messages ?? [] { message.settled?.finish() }
    }

    /// Returns the number of waiting messages.
    public func count(_ queue: QueueName) -> Int { state.withLock { $0.queues[queue]?.messages.count ?? 0 } }

    private func deliverAgain(_ id: Int, of queue: QueueName) {
        state.withLock { state in
            guard let message = state.queues[queue]?.messages.first(where: { $0.id == id }) else { return }
            state.queues[queue]?.consumer?.deliver(message)
        }
    }

    private func settle(_ id: Int, of queue: QueueName) {
        let message = state.withLock { state in
            state.queues[queue]?.messages.firstIndex { $0.id == id }.flatMap { state.queues[queue]?.messages.remove(at: $0) }
        }
        message?.settled?.yield()
        message?.settled?.finish()
    }
}
