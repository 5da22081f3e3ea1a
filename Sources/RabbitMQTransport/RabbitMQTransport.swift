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
        /// As the server's management pages show it.
        public var name: String
        /// How peers that speak AMQP themselves get in; nil: all speak HTTP with a server.
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

    /// Where events go that nobody can understand, for a person to look at.
    public static let deadLetters = "cohort.dead-letters"
    /// Where peers publish their events, by the name of the session's queue.
    public static let eventExchange = "cohort.events"
    /// News for every process.
    static let signals = "cohort.signals"
    /// The server signs what it passes on for peers that speak HTTP.
    static let gateway = 0

    let connection: RabbitMQConnection
    private let signatures: MessageSignatures
    private let configuration: Configuration
    private let logger: Logger

    private struct EventConsumer {
        var name: String
        var finish: @Sendable () -> Void
    }

    private struct State {
        var events: [QueueName: EventConsumer] = [:]
        /// Of peers that speak HTTP, from their first stream on until they are forgotten.
        var commands: [String: HeldCommands] = [:]
        /// Peers whose queue this process has made.
        var known: Set<String> = []
        /// Ids rise over restarts as well: microseconds since 1970, or one more than the last.
        var lastId = 0
        var listeners: [AsyncStream<Signal>.Continuation] = []
    }
    private let state = Mutex(State())
    private let time: any TimeSource
    /// Who this is among those that signal.
    private let process = newIdentifier()

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
                // One of another kind, made while COHORT_BROKER_QUORUM was another, keeps what nobody understands as well.
                guard error.kind == .channel, error.code == 406 else { throw error }
            }
            try wire.declare(exchange: Self.signals, .fanout, channel: RabbitMQConnection.Channel.control)
            try wire.declare(exchange: Self.eventExchange, .topic, channel: RabbitMQConnection.Channel.control)
        }
        connection.attach(
            .init(
                queue: "\(Self.signals).\(process)", exchange: Self.signals, kind: QueueKind(isExclusive: true, maxLength: 10_000),
                channel: RabbitMQConnection.Channel.signals, deliver: { [weak self] delivery, _ in self?.hear(delivery) }, end: {}))
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

    private var eventQueue: QueueKind { QueueKind(isQuorum: configuration.isQuorum, deadLetters: Self.deadLetters) }

    /// More than so many commands wait only for a peer that is long gone.
    static func commandQueue(isQuorum: Bool, expiry: Int) -> QueueKind {
        QueueKind(isQuorum: isQuorum, expires: expiry, maxLength: 1_000)
    }

    private var commandQueue: QueueKind {
        Self.commandQueue(isQuorum: configuration.isQuorum, expiry: configuration.peerQueueExpiry)
    }

    private func declare(_ queue: QueueName, _ kind: QueueKind) async throws {
        try await connection.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
            try wire.declare(queue.rawValue, kind, channel: RabbitMQConnection.Channel.control)
        }
    }

    // MARK: Events

    public func open(_ queue: QueueName) async throws {
        let kind = eventQueue
        try await connection.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
            try wire.declare(queue.rawValue, kind, channel: RabbitMQConnection.Channel.control)
            try wire.bind(
                queue.rawValue, to: Self.eventExchange, key: queue.rawValue, channel: RabbitMQConnection.Channel.control)
        }
    }

    public func events(of queue: QueueName) async throws -> AsyncThrowingStream<ReceivedEvent, any Error> {
        let (stream, continuation) = AsyncThrowingStream<ReceivedEvent, any Error>.makeStream()
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

    /// nil: anybody may have sent it.
    private func verifiedSender(_ delivery: WireDelivery) -> String? {
        guard let registration = Int(delivery.registration), !delivery.sender.isEmpty,
            signatures.isGood(delivery.signature, of: delivery.body, peerId: delivery.sender, registration: registration),
            // An account of a peer's own speaks for nobody else.
            !delivery.userId.hasPrefix(PeerAccess.accountPrefix) || delivery.userId == PeerAccess.account(of: delivery.sender)
        else { return nil }
        return delivery.sender
    }

    private func settle(_ delivery: WireDelivery, connection number: Int, as settlement: Settlement) {
        let how: RabbitMQConnection.Settling =
            switch settlement {
            case .accepted: .acknowledge
            case .released: .requeue
            // What nobody can understand is kept for a person to look at; what comes too late is not.
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

    private func delete(_ queue: QueueName) async throws {
        try await connection.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
            try wire.delete(queue.rawValue, channel: RabbitMQConnection.Channel.control)
        }
    }

    // MARK: Commands

    public func send(_ command: Command, to peerId: String) async throws {
        let queue = QueueName.command(peerId: peerId)
        let message = WireMessage(key: queue.rawValue, body: try CohortJSON.encode(command))
        if state.withLock({ $0.known.contains(peerId) }) {
            do {
                return try await connection.publish([message])
            } catch let error as CohortError where error.code == .notFound {
                // It has expired, or another process has removed it.
            }
        }
        try await declare(queue, commandQueue)
        _ = state.withLock { $0.known.insert(peerId) }
        try await connection.publish([message])
    }

    public func forget(peer peerId: String) async throws {
        _ = state.withLock { $0.known.remove(peerId) }
        letGo(ofCommandsFor: peerId)
        try await configuration.access?.revoke(peerId: peerId)
        try await delete(.command(peerId: peerId))
    }

    public func admit(peerId: String, registration: Int) async throws -> BrokerAddress? {
        guard let access = configuration.access else { return nil }
        let queue = QueueName.command(peerId: peerId)
        // The peer may not make it itself.
        try await declare(queue, commandQueue)
        _ = state.withLock { $0.known.insert(peerId) }
        return BrokerAddress(
            kind: "amqp", url: try await access.admit(peerId: peerId, queue: queue), commandQueue: queue.rawValue,
            eventExchange: Self.eventExchange, key: signatures.key(peerId: peerId, registration: registration))
    }

    /// What it has been told and has not acknowledged goes back to its queue.
    private func letGo(ofCommandsFor peerId: String) {
        guard let held = state.withLock({ $0.commands.removeValue(forKey: peerId) }) else { return }
        held.end()
        if let name = held.name() { connection.cancel(name) }
    }

    // MARK: Signals

    /// What goes over the exchange.
    private enum News: Codable {
        case signal(Signal)
        /// The peer is told its commands by the sender from now on.
        case streams(peerId: String)
    }

    public func send(_ signal: Signal) async { tell(.signal(signal)) }

    private func tell(_ news: News) {
        do {
            let body = try CohortJSON.encode(news)
            let key = signatures.key(peerId: process, registration: Self.gateway)
            connection.broadcast(
                WireMessage(
                    exchange: Self.signals, key: "", body: body, isPersistent: false, isMandatory: false, sender: process,
                    registration: "\(Self.gateway)", signature: MessageSignatures.sign(body, key: key)))
        } catch {
            logger.warning("other servers are not told: \(error)")
        }
    }

    private func hear(_ delivery: WireDelivery) {
        guard delivery.sender != process else { return }
        guard delivery.registration == "\(Self.gateway)", verifiedSender(delivery) != nil,
            let news = try? CohortJSON.decode(News.self, from: delivery.body)
        else {
            return logger.warning(
                "news from another server is passed over: it is signed by nobody of this deployment. Do all have the same COHORT_JWT_SECRET?"
            )
        }
        switch news {
        case .signal(let signal):
            for listener in state.withLock({ $0.listeners }) { listener.yield(signal) }
        case .streams(let peerId):
            letGo(ofCommandsFor: peerId)
        }
    }

    public func signals() async -> AsyncStream<Signal> {
        let (stream, continuation) = AsyncStream<Signal>.makeStream(bufferingPolicy: .bufferingNewest(10_000))
        state.withLock { $0.listeners.append(continuation) }
        return stream
    }

    // MARK: For peers that speak HTTP

    /// The queue is consumed from the peer's first stream on until it is forgotten, so that one that connects again goes on with the same
    /// ids.
    public func commands(of peerId: String) async throws -> AsyncThrowingStream<QueuedCommand, any Error> {
        let (stream, continuation) = AsyncThrowingStream<QueuedCommand, any Error>.makeStream()
        let (held, isNew) = state.withLock { state in
            if let held = state.commands[peerId] { return (held, false) }
            let held = HeldCommands()
            state.commands[peerId] = held
            state.known.insert(peerId)
            return (held, true)
        }
        held.attach(continuation)
        guard isNew else { return stream }
        // It was at another server before, perhaps, which would be told what it does not hear any more.
        tell(.streams(peerId: peerId))
        do {
            let name = try await connection.consume(
                .init(
                    queue: QueueName.command(peerId: peerId).rawValue, kind: commandQueue, channel: RabbitMQConnection.Channel.commands,
                    deliver: { [self] delivery, connection in
                        held.add(QueuedCommand(id: newId(), body: delivery.body), tag: delivery.tag, connection: connection)
                    },
                    end: { [weak self] in
                        self?.letGo(peerId, held)
                        held.end()
                    }))
            held.name(name)
        } catch {
            letGo(peerId, held)
            held.end()
            throw error
        }
        return stream
    }

    private func letGo(_ peerId: String, _ held: HeldCommands) {
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
        for (tag, number) in held.take(through: id) {
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
            throw CohortError(.unavailable, "no coordinator takes events of \(queue) just now: send it again")
        }
    }
}

/// What a peer that speaks HTTP has been told and has not acknowledged, and the stream that it is told by.
final class HeldCommands: Sendable {
    typealias Continuation = AsyncThrowingStream<QueuedCommand, any Error>.Continuation

    private struct Entry {
        var command: QueuedCommand
        var tag: UInt64
        var connection: Int
    }

    private struct State {
        var entries: [Entry] = []
        var continuation: Continuation?
        var name: String?
        var hasEnded = false
    }

    private let state = Mutex(State())

    /// The newer stream ends the older, and begins with what is not acknowledged.
    func attach(_ continuation: Continuation) {
        let older = state.withLock { state in
            guard !state.hasEnded else { return continuation as Continuation? }
            defer { state.continuation = continuation }
            for entry in state.entries { continuation.yield(entry.command) }
            return state.continuation
        }
        older?.finish()
    }

    func add(_ command: QueuedCommand, tag: UInt64, connection: Int) {
        state.withLock { state in
            // Those of an earlier connection come again by this one.
            if let last = state.entries.last, last.connection != connection { state.entries.removeAll() }
            state.entries.append(Entry(command: command, tag: tag, connection: connection))
            state.continuation?.yield(command)
        }
    }

    func take(through id: Int) -> [(tag: UInt64, connection: Int)] {
        state.withLock { state in
            defer { state.entries.removeAll { $0.command.id <= id } }
            return state.entries.filter { $0.command.id <= id }.map { ($0.tag, $0.connection) }
        }
    }

    func name(_ name: String) { state.withLock { $0.name = name } }
    func name() -> String? { state.withLock { $0.name } }

    func end() {
        let continuation = state.withLock { state in
            state.hasEnded = true
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.finish()
    }
}
