/// A peer's side of the wire, made for one registration: its commands come, its events go, its presence is told.
public protocol PeerTransport: Sendable {
    /// Beats and keeps the connection, until the task is cancelled. An absence of the server is waited out.
    /// - Throws: ``CohortError`` `conflict` or `notFound` when the registration is given up: register again; `unauthenticated` or
    ///   `forbidden` when the peer is not wanted any more.
    func run() async throws

    /// What the peer is told, each in turn. A connection that breaks is opened again, for as long as it takes; what was not accepted comes
    /// again.
    /// - Throws: while iterating: as ``run()``.
    func commands() async throws -> AsyncThrowingStream<ReceivedCommand, any Error>

    /// Returns when the transport has taken the events of one session over, in their order. A refusal comes as a command, REFUSED.
    /// - Throws: ``CohortError`` `unavailable` when it is away or nobody takes events now: trying again is right, with all of them, as a
    ///   repeat does no harm; `conflict` when the session is over or this peer is not in it: drop them.
    func send(_ events: [PeerEvent], to queue: QueueName) async throws
}

/// A command in its peer's hands until it is accepted: at once, never when the work is done.
public struct ReceivedCommand: Sendable {
    public let body: [UInt8]
    public let accept: @Sendable () async throws -> Void

    public init(body: [UInt8], accept: @escaping @Sendable () async throws -> Void) {
        self.body = body
        self.accept = accept
    }
}

/// How peers that speak HTTP with this server take part, whatever carries the messages behind it.
public protocol PeerGateway: Sendable {
    /// The commands of a peer from the first that is not acknowledged on, with rising ids. A newer stream of the peer ends the older one.
    /// - Throws: ``CohortError`` `unavailable`; while iterating as well.
    func commands(of peerId: String) async throws -> AsyncThrowingStream<QueuedCommand, any Error>

    /// Takes away the peer's commands up to and including `id`.
    func acknowledge(peerId: String, through id: Int) async throws

    /// Lets a peer in that speaks with the broker itself.
    /// - Returns: what it needs for that; nil where every peer speaks HTTP.
    /// - Throws: ``CohortError`` `unavailable`.
    func admit(peerId: String, registration: Int) async throws -> API.BrokerAddress?

    /// Whether somebody takes the queue's events now, as far as this process knows.
    func isConsumed(_ queue: QueueName) async -> Bool

    /// Returns when the events, in their order, are settled by their consumer or stored by the transport.
    /// - Parameter peerId: who sends them, as the server has verified.
    /// - Throws: ``CohortError`` `unavailable` when nobody takes them now: send them again; `invalid` for a queue of commands.
    func publish(_ events: [[UInt8]], from peerId: String, to queue: QueueName) async throws
}

public struct QueuedCommand: Sendable {
    public let id: Int
    public let body: [UInt8]

    public init(id: Int, body: [UInt8]) {
        self.id = id
        self.body = body
    }
}
