public import CohortCore

/// The coordinator's side of the wire: commands go to peers, events come from them. Delivery is at least once on every transport.
public protocol CoordinatorTransport: Sendable {
    /// Keeps the connection for as long as it runs; ends when the task is cancelled.
    /// - Throws: ``CohortError`` when it can never work: a wrong password, a certificate that is not trusted.
    func run() async throws

    /// - Throws: ``CohortError`` `unavailable`: the transport is away, in one sentence.
    func ready() async throws

    /// Makes the session's event queue if it is not there. Idempotent.
    func open(_ queue: QueueName) async throws

    /// Queues a command for a peer, whose queue is made if it is not there. At most one of a kind need wait for each session: a newer one may
    /// replace it, and STOP all. A peer that takes no commands costs no more than a bounded number of them.
    /// - Throws: ``CohortError`` `unavailable` when the transport is away: retry; `notFound` for a peer that is not
    ///   reachable.
    func send(_ command: Command, to peerId: String) async throws

    /// The queue's events, each in turn, one consumer a queue: a newer one ends the older. Ends when the queue is closed or the task is
    /// cancelled. An event that was not settled comes again to the next consumer.
    func events(of queue: QueueName) async throws -> AsyncThrowingStream<ReceivedEvent, any Error>

    /// Removes the queue and what is in it. Idempotent.
    func close(_ queue: QueueName) async throws

    /// Removes a peer's queue, with what was still to be told to it. Idempotent.
    func forget(peer peerId: String) async throws
}

extension CoordinatorTransport {
    /// The default, for a transport without a connection.
    public func run() async throws {
        // Nothing ever comes: until the task is cancelled.
        let (stream, continuation) = AsyncStream.makeStream(of: Never.self, bufferingPolicy: .bufferingNewest(1))
        for await _ in stream {}
        continuation.finish()
    }

    public func ready() async throws {}
}

/// An event in its consumer's hands until it is settled.
public struct ReceivedEvent: Sendable {
    /// The unchecked bytes: a sender may have written anything.
    public let body: [UInt8]
    /// The peer that sent it, as the transport verified it, not as the message says.
    public let sender: String
    /// Called once.
    public let settle: @Sendable (Settlement) async throws -> Void

    public init(body: [UInt8], sender: String, settle: @escaping @Sendable (Settlement) async throws -> Void) {
        self.body = body
        self.sender = sender
        self.settle = settle
    }
}

public enum Settlement: Equatable, Sendable {
    /// Its effect is stored.
    case accepted
    /// It can never be handled: not delivered again; kept as a dead letter where the transport has those. The refusing side must send
    /// REFUSED to the sender.
    case refused(CohortError)
    /// The event is delivered again.
    case released
}
