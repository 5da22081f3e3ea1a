public import CohortCore
public import CohortWire
public import Logging

/// The wire of a peer that speaks AMQP with the RabbitMQ itself: its commands come from its queue, one at a time, its events go out signed.
public final class RabbitMQPeerTransport: PeerTransport {
    private let connection: RabbitMQConnection
    private let broker: BrokerAddress
    private let peerId: String
    private let registration: Int
    private let queue: String
    private let exchange: String
    private let key: String
    private let account: String
    private let presence: @Sendable () async throws -> Void

    /// - Parameters:
    ///   - registration: the number of the peer's registration.
    ///   - broker: the address that the server assigned to it.
    ///   - caFile: a PEM file of the authorities that signed the RabbitMQ's certificate; nil: the system's.
    ///   - presence: tells the server that the peer is there, until it is cancelled.
    /// - Throws: ``CohortError`` `invalid` when the answer lacks what it takes.
    public init(
        peerId: String, registration: Int, broker: BrokerAddress, caFile: String?, logger: Logger,
        presence: @escaping @Sendable () async throws -> Void
    ) throws {
        self.broker = broker
        guard let url = broker.url, let queue = broker.commandQueue, let exchange = broker.eventExchange, let key = broker.key else {
            throw CohortError(
                .invalid, "the server's answer lacks the URL, queue, exchange or key of its RabbitMQ: is it of another version?")
        }
        var address = try RabbitMQAddress(url, setting: "the server's RabbitMQ")
        if let caFile, address.isTLS { address.caFile = caFile }
        self.peerId = peerId
        self.registration = registration
        self.queue = queue
        self.exchange = exchange
        self.key = key
        self.presence = presence
        account = address.user
        connection = try RabbitMQConnection(address, name: "cohort peer \(peerId)", commandPrefetch: 1, logger: logger)
    }

    public func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { [connection] in
                do {
                    try await connection.run()
                } catch let error as CohortError where error.code == .unauthenticated {
                    // The account went with the registration, or has another password since: a new registration brings a new one.
                    throw CohortError(.conflict, error.message)
                }
            }
            group.addTask { [presence] in try await presence() }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    public func commands() async throws -> AsyncThrowingStream<ReceivedCommand, any Error> {
        // The prefetch bounds it.
        let (stream, continuation) = AsyncThrowingStream<ReceivedCommand, any Error>.makeStream(bufferingPolicy: .unbounded)
        let consumer = RabbitMQConnection.Consumer(
            queue: queue, kind: nil, channel: RabbitMQConnection.Channel.commands,
            deliver: { [connection] delivery, number in
                continuation.yield(
                    ReceivedCommand(body: delivery.body) {
                        connection.settle(delivery.tag, of: number, channel: delivery.channel, .acknowledge)
                    })
            },
            end: { continuation.finish(throwing: CohortError(.conflict, "this peer's command queue was removed")) })
        // From the next connection on, which may be the first.
        let name = connection.attach(consumer)
        continuation.onTermination = { [weak connection] _ in connection?.cancel(name) }
        return stream
    }

    public func send(_ events: [PeerEvent], to queue: QueueName) async throws {
        do {
            try await connection.publish(
                try events.map { event in
                    let body = try CohortJSON.encode(event)
                    return WireMessage(
                        exchange: exchange, key: queue.rawValue, body: body, sender: peerId, registration: "\(registration)",
                        signature: MessageSignatures.sign(body, key: key), userId: account)
                })
        } catch let error as CohortError where error.code == .notFound {
            throw CohortError(.conflict, "the session of \(queue.rawValue) is over: its events are not accepted any more")
        }
    }
}
