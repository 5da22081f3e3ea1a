/// Carries commands to peers and events to coordinators. Delivery is at least once on every transport.
public protocol Broker: Sendable {
    /// Makes the queue if it is not there. Idempotent.
    func declare(_ queue: QueueName) async throws

    /// Queues a command for a peer. At most one of a kind waits for each session: a newer one replaces it, and STOP replaces all. A peer
    /// that takes no commands costs the broker no more than that.
    /// - Throws: ``CohortError`` `unavailable` when the broker is away: trying again is right; `notFound` when this peer cannot be reached.
    func send(_ command: Command, to peerId: String) async throws

    /// Returns when the broker has taken the events over, in their order: when their consumer has acknowledged them or the broker has
    /// stored them.
    /// - Returns: for each message nil, or why its consumer refused it for good: publishing it again is of no use.
    /// - Throws: ``CohortError`` `unavailable` when the broker is away or nobody takes events for the queue; trying again is right, with
    ///   all of them: a repeat does no harm.
    func publish(_ messages: [[UInt8]], to queue: QueueName) async throws -> [CohortError?]

    /// The messages of the queue, each in turn, one consumer a queue; ends when the queue is deleted or the task is cancelled. A message not
    /// acknowledged is delivered again to the next consumer.
    func consume(_ queue: QueueName) async throws -> AsyncThrowingStream<Delivery, any Error>

    /// Removes the queue and what is in it. Idempotent.
    func delete(_ queue: QueueName) async throws
}

extension Broker {
    /// One message.
    /// - Throws: also the consumer's refusal.
    public func publish(_ message: [UInt8], to queue: QueueName) async throws {
        if let refusal = try await publish([message], to: queue).first, let refusal { throw refusal }
    }
}

/// A message in a consumer's hands until it is acknowledged or rejected.
public struct Delivery: Sendable {
    public let body: [UInt8]
    public let redelivered: Bool
    /// Safely taken over: not delivered again.
    public let acknowledge: @Sendable () async throws -> Void
    /// Cannot be handled; the broker drops it (or moves it to a dead-letter queue). The publisher of an event over HTTP is told `reason`.
    public let reject: @Sendable (_ reason: CohortError) async throws -> Void

    public init(
        body: [UInt8], redelivered: Bool, acknowledge: @escaping @Sendable () async throws -> Void,
        reject: @escaping @Sendable (CohortError) async throws -> Void
    ) {
        self.body = body
        self.redelivered = redelivered
        self.acknowledge = acknowledge
        self.reject = reject
    }
}
