public import CohortCore
public import CohortWire
import Logging
import Synchronization

/// Events of sessions, for their coordinator.
extension RabbitMQTransport {
    public func open(_ queue: QueueName) async throws {
        let kind = eventQueue
        try await connection.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
            try wire.declare(queue.rawValue, kind, channel: RabbitMQConnection.Channel.control)
            try wire.bind(
                queue.rawValue, to: Self.eventExchange, key: queue.rawValue, channel: RabbitMQConnection.Channel.control)
        }
    }

    public func events(of queue: QueueName) async throws -> AsyncThrowingStream<ReceivedEvent, any Error> {
        // The prefetch bounds it.
        let (stream, continuation) = AsyncThrowingStream<ReceivedEvent, any Error>.makeStream(bufferingPolicy: .unbounded)
        let name = try await connection.consume(
            .init(
                queue: queue.rawValue, kind: eventQueue, channel: RabbitMQConnection.Channel.events,
                deliver: { [self] delivery, connection in
                    guard let sender = verifiedSender(delivery) else {
                        return reject(delivery, connection: connection, reason: "its signature is not that of the peer it names")
                    }
                    continuation.yield(
                        ReceivedEvent(body: delivery.body, sender: sender) { [self] settlement in
                            self.settle(delivery, connection: connection, as: settlement)
                        })
                }, end: { continuation.finish() }))
        let consumer = EventConsumer(name: name, finish: { continuation.finish() })
        let older = state.withLock { state in
            defer { state.events[queue] = consumer }
            return state.events[queue]
        }
        older?.finish()
        continuation.onTermination = { [weak self] _ in
            guard let self else { return }
            state.withLock { state in
                if state.events[queue]?.name == name { state.events[queue] = nil }
            }
            connection.cancel(name)
        }
        return stream
    }

    /// Returns the peer that signed the message; nil without a valid signature.
    func verifiedSender(_ delivery: WireDelivery) -> String? {
        guard let registration = Int(delivery.registration), !delivery.sender.isEmpty,
            signatures.isGood(delivery.signature, of: delivery.body, peerId: delivery.sender, registration: registration),
            // A peer's account speaks for no other peer.
            !delivery.userId.hasPrefix(PeerAccess.accountPrefix) || delivery.userId == PeerAccess.account(of: delivery.sender)
        else { return nil }
        return delivery.sender
    }

    private func settle(_ delivery: WireDelivery, connection number: Int, as settlement: Settlement) {
        let how: RabbitMQConnection.Settling =
            switch settlement {
            case .accepted: .acknowledge
            case .released: .requeue
            // A malformed event is kept for inspection; a late one is not.
            case .refused(let error): error.code == .invalid ? .drop : .acknowledge
            }
        if how == .drop { logger.warning("an event of peer \(delivery.sender.printable(max: 64)) is now in \(Self.deadLetters)") }
        connection.settle(delivery.tag, of: number, channel: delivery.channel, how)
    }

    private func reject(_ delivery: WireDelivery, connection number: Int, reason why: String) {
        logger.warning("a message is now in \(Self.deadLetters): \(why)", metadata: ["consumer": "\(delivery.consumer)"])
        connection.settle(delivery.tag, of: number, channel: delivery.channel, .drop)
    }

    public func close(_ queue: QueueName) async throws {
        state.withLock { $0.events.removeValue(forKey: queue) }?.finish()
        try await delete(queue)
    }
}
