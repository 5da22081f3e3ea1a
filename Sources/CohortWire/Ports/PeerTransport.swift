public import CohortCore

/// A peer's connection for one registration: receives commands, sends events and beats.
public protocol PeerTransport: Sendable {
    /// Beats and keeps the connection, until the task is cancelled. An absence of the server is waited out.
    /// - Throws: ``CohortError`` `conflict` or `notFound` when the registration is lost: register again; `unauthenticated` or
    ///   `forbidden` when the peer may not take part any more.
    func run() async throws

    /// The peer's commands, in order. A broken connection is reopened, for as long as it takes; commands that were not acknowledged come
    /// again.
    /// - Throws: while iterating: as ``run()``.
    func commands() async throws -> AsyncThrowingStream<ReceivedCommand, any Error>

    /// Returns when the transport has taken the events of one session over, in their order. A refusal comes as a command, REFUSED.
    /// - Throws: ``CohortError`` `unavailable` when it is away or no coordinator takes events: retry with all of them, as
    ///   repeats are ignored; `conflict` when the session is over or this peer is not in it: drop them.
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

/// The gateway for peers that connect by HTTP, over any transport.
public protocol PeerGateway: Sendable {
    /// The commands of a peer from the first that is not acknowledged on, with rising ids. A newer stream of the peer ends the older one.
    /// - Throws: ``CohortError`` `unavailable`; while iterating as well.
    func commands(of peerId: String) async throws -> AsyncThrowingStream<QueuedCommand, any Error>

    /// Takes away the peer's commands up to and including `id`.
    func acknowledge(peerId: String, through id: Int) async throws

    /// Grants broker access to a peer that connects directly.
    /// - Returns: what it needs for that; nil where every peer speaks HTTP.
    /// - Throws: ``CohortError`` `unavailable`.
    func admit(peerId: String, registration: Int) async throws -> BrokerAddress?

    /// Returns whether the queue has a consumer, as far as this process knows.
    func isConsumed(_ queue: QueueName) async -> Bool

    /// Returns when the events, in their order, are settled by their consumer or stored by the transport.
    /// - Parameter peerId: who sends them, as the server has verified.
    /// - Throws: ``CohortError`` `unavailable` without a consumer: send them again; `invalid` for a queue of commands.
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
