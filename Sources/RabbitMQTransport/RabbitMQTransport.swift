public import CohortCore
public import CohortWire
import FoundationEssentials
public import Logging
import Synchronization

/// Commands and events through a RabbitMQ that servers, coordinators and peers share. Queues are durable, messages persistent, publications
/// confirmed; an event is acknowledged when its effect is stored.
public final class RabbitMQTransport: CoordinatorTransport, PeerGateway, SignalBus {
    public struct Configuration: Sendable {
        public var address: RabbitMQAddress
        /// Quorum queues, for a cluster.
        public var isQuorum: Bool
        /// Seconds without a consumer after which a peer's queue goes.
        public var peerQueueExpiry: Int
        /// The name on the server's management pages.
        public var name: String
        /// The access of peers that speak AMQP themselves; nil: all speak HTTP with a server.
        public var access: PeerAccess?

        public init(
            address: RabbitMQAddress, isQuorum: Bool = false, peerQueueExpiry: Int = 7 * 86_400, name: String = "cohort",
            access: PeerAccess? = nil
        ) {
            self.access = access
            self.address = address
            self.isQuorum = isQuorum
            self.peerQueueExpiry = peerQueueExpiry
            self.name = name
        }
    }

    /// The queue for malformed events, kept for inspection.
    public static let deadLetters = "cohort.dead-letters"
    /// The exchange for events of peers, routed by the name of a session's queue.
    public static let eventExchange = "cohort.events"
    /// News for every process.
    static let signals = "cohort.signals"
    /// The server signs what it passes on for peers that speak HTTP.
    static let gateway = 0

    let connection: RabbitMQConnection
    let signatures: MessageSignatures
    let configuration: Configuration
    let logger: Logger

    struct EventConsumer {
        var name: String
        var finish: @Sendable () -> Void
    }

    struct State {
        var events: [QueueName: EventConsumer] = [:]
        /// Commands of peers that speak HTTP, from their first stream until they are forgotten.
        var commands: [String: HeldCommands] = [:]
        /// Peers whose queue this process has made.
        var known: Set<String> = []
        /// Ids rise over restarts as well: microseconds since 1970, or one more than the last.
        var lastId = 0
        var listeners: [AsyncStream<Signal>.Continuation] = []
    }
    let state = Mutex(State())
    let time: any TimeSource
    /// Who this is among those that signal.
    let process = newIdentifier()

    /// - Throws: ``CohortError`` `internal` when the system gives no pipe.
    public init(
        _ configuration: Configuration, signatures: MessageSignatures, time: any TimeSource = SystemTime(), logger: Logger
    ) throws {
        self.configuration = configuration
        self.signatures = signatures
        self.time = time
        self.logger = logger
        connection = try RabbitMQConnection(configuration.address, name: configuration.name, logger: logger) { wire throws(WireFault) in
            do throws(WireFault) {
                try wire.declare(
                    Self.deadLetters, QueueKind(isQuorum: configuration.isQuorum, maxLength: 10_000),
                    channel: RabbitMQConnection.Channel.control)
            } catch {
                // A queue of another kind, made while COHORT_BROKER_QUORUM differed, keeps malformed events as well.
                guard error.kind == .channel, error.code == 406 else { throw error }
            }
            try wire.declare(exchange: Self.signals, .fanout, channel: RabbitMQConnection.Channel.control)
            try wire.declare(exchange: Self.eventExchange, .topic, channel: RabbitMQConnection.Channel.control)
        }
        connection.attach(
            .init(
                queue: "\(Self.signals).\(process)", exchange: Self.signals, kind: QueueKind(isExclusive: true, maxLength: 10_000),
                channel: RabbitMQConnection.Channel.signals, deliver: { [weak self] delivery, _ in self?.receiveSignal(delivery) }, end: {})
        )
    }

    public func run() async throws {
        do {
            try await connection.run()
        } catch {
            await configuration.access?.close()
            throw error
        }
        await configuration.access?.close()
    }

    public func ready() async throws { try connection.ready() }

    var eventQueue: QueueKind { QueueKind(isQuorum: configuration.isQuorum, deadLetters: Self.deadLetters) }

    /// More than so many commands wait only for a peer that is long gone.
    static func commandQueue(isQuorum: Bool, expiry: Int) -> QueueKind {
        QueueKind(isQuorum: isQuorum, expires: expiry, maxLength: 1_000)
    }

    var commandQueue: QueueKind {
        Self.commandQueue(isQuorum: configuration.isQuorum, expiry: configuration.peerQueueExpiry)
    }

    func declare(_ queue: QueueName, _ kind: QueueKind) async throws {
        try await connection.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
            try wire.declare(queue.rawValue, kind, channel: RabbitMQConnection.Channel.control)
        }
    }

    func delete(_ queue: QueueName) async throws {
        try await connection.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
            try wire.delete(queue.rawValue, channel: RabbitMQConnection.Channel.control)
        }
    }
}
