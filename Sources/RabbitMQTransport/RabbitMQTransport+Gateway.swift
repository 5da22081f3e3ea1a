public import CohortCore
public import CohortWire
import FoundationEssentials
import Synchronization

/// The gateway for peers that connect by HTTP, and the access of those that connect to the RabbitMQ themselves.
extension RabbitMQTransport {
    public func admit(peerId: String, registration: Int) async throws -> BrokerAddress? {
        guard let access = configuration.access else { return nil }
        let queue = QueueName.command(peerId: peerId)
        // The peer may not make it itself.
        try await declare(queue, commandQueue)
        _ = state.withLock { $0.known.insert(peerId) }
        return BrokerAddress(
            kind: .amqp, url: try await access.admit(peerId: peerId, queue: queue), commandQueue: queue.rawValue,
            eventExchange: Self.eventExchange, key: signatures.key(peerId: peerId, registration: registration))
    }

    /// Returns unacknowledged commands of the peer to its queue.
    func releaseCommands(of peerId: String) {
        guard let held = state.withLock({ $0.commands.removeValue(forKey: peerId) }) else { return }
        held.end()
        if let name = held.name() { connection.cancel(name) }
    }

    /// The queue is consumed from the peer's first stream until the peer is forgotten, so that ids go on when the peer reconnects.
    public func commands(of peerId: String) async throws -> AsyncThrowingStream<QueuedCommand, any Error> {
        // The prefetch bounds it.
        let (stream, continuation) = AsyncThrowingStream<QueuedCommand, any Error>.makeStream(bufferingPolicy: .unbounded)
        let (held, isNew) = state.withLock { state in
            if let held = state.commands[peerId] { return (held, false) }
            let held = HeldCommands()
            state.commands[peerId] = held
            state.known.insert(peerId)
            return (held, true)
        }
        held.attach(continuation)
        guard isNew else { return stream }
        // The peer may have been connected to another server, which must not receive its commands any more.
        broadcast(.streams(peerId: peerId))
        do {
            let name = try await connection.consume(
                .init(
                    queue: QueueName.command(peerId: peerId).rawValue, kind: commandQueue, channel: RabbitMQConnection.Channel.commands,
                    deliver: { [self] delivery, connection in
                        held.add(QueuedCommand(id: newId(), body: delivery.body), tag: delivery.tag, connection: connection)
                    },
                    end: { [weak self] in
                        self?.forget(held, of: peerId)
                        held.end()
                    }))
            held.name(name)
        } catch {
            forget(held, of: peerId)
            held.end()
            throw error
        }
        return stream
    }

    private func forget(_ held: HeldCommands, of peerId: String) {
        state.withLock { state in
            if state.commands[peerId] === held { state.commands[peerId] = nil }
        }
    }

    private func newId() -> Int {
        let now = Int(time.date.timeIntervalSince1970 * 1e6)
        return state.withLock { state in
            state.lastId = max(state.lastId + 1, now)
            return state.lastId
        }
    }

    public func acknowledge(peerId: String, through id: Int) async throws {
        guard let held = state.withLock({ $0.commands[peerId] }) else { return }
        for (tag, number) in held.remove(through: id) {
            connection.settle(tag, of: number, channel: RabbitMQConnection.Channel.commands, .acknowledge)
        }
    }

    public func isConsumed(_ queue: QueueName) async -> Bool { state.withLock { $0.events[queue] != nil } }

    public func publish(_ events: [[UInt8]], from peerId: String, to queue: QueueName) async throws {
        guard queue.rawValue.hasPrefix("coordinator.") else { throw CohortError(.invalid, "\(queue) takes commands, not events") }
        let key = signatures.key(peerId: peerId, registration: Self.gateway)
        do {
            try await connection.publish(
                events.map { body in
                    WireMessage(
                        key: queue.rawValue, body: body, sender: peerId, registration: "\(Self.gateway)",
                        signature: MessageSignatures.sign(body, key: key))
                })
        } catch let error as CohortError where error.code == .notFound {
            throw CohortError(.unavailable, "no coordinator accepts events of \(queue) at the moment: send it again")
        }
    }
}
