import CohortCore
import CohortSystem
import CohortWire
import Logging
import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The one connection of a process, on a separate thread: requests are executed there in turn, and messages of the server are handed on
/// from there. A connection that breaks is made again, for as long as it takes, with its consumers.
final class RabbitMQConnection: Sendable {
    /// Channels: a fault of one does not reach the others.
    enum Channel {
        /// The channel with publisher confirms.
        static let publishing = 1
        /// Queues and exchanges.
        static let control = 2
        /// Consumers whose deliveries come many at a time, and one at a time.
        static let events = 3
        static let commands = 4
        /// The channel for messages that may be lost: published without confirms, consumed without acknowledgements.
        static let signals = 5
    }

    struct Consumer: Sendable {
        var queue: String
        /// A fan-out exchange: the queue is this connection's alone and bound to it, and what it delivers needs no settling.
        var exchange: String?
        /// nil: another process makes the queue.
        var kind: QueueKind?
        var channel: Int
        /// Called with the number of the delivery's connection: its tag is valid for that one.
        var deliver: @Sendable (WireDelivery, _ connection: Int) -> Void
        /// The queue is gone.
        var end: @Sendable () -> Void
    }

    /// The time for which a request waits for a connection.
    static let patience = Duration.seconds(5)

    struct Job: Sendable {
        var deadline: ContinuousClock.Instant
        var run: @Sendable (Wire, inout Ledger) throws(WireFault) -> Void
        var giveUp: @Sendable (CohortError) -> Void
    }

    /// The open requests of one connection.
    struct Ledger {
        var confirms = Confirms()
        var deliveries = Deliveries()
    }

    enum Settling: Sendable { case acknowledge, drop, requeue }

    struct Settlement: Sendable {
        var tag: UInt64
        var connection: Int
        var channel: Int
        var how: Settling
    }

    struct State {
        var jobs: [Job] = []
        var settlements: [Settlement] = []
        var consumers: [String: Consumer] = [:]
        /// Rises with every connection; tags of deliveries are good for one.
        var number = 0
        var isConnected = false
        var isStopping = false
        var hasEnded = false
        /// The reason for which there is no connection.
        var reason = "not connected yet"
        /// The reason for which the connected server accepts nothing.
        var blocked: String?
        var isAwake = false
    }

    let address: RabbitMQAddress
    let name: String
    let logger: Logger
    let commandPrefetch: Int
    let setUp: @Sendable (Wire) throws(WireFault) -> Void
    let state = Mutex(State())
    let pipe: (reading: Int32, writing: Int32)

    /// - Parameters:
    ///   - commandPrefetch: how many commands are in hand, not acknowledged, at most.
    ///   - setUp: what every new connection begins with, once its channels are open.
    init(
        _ address: RabbitMQAddress, name: String, commandPrefetch: Int = 16, logger: Logger,
        setUp: @escaping @Sendable (Wire) throws(WireFault) -> Void = { _ in }
    ) throws {
        self.address = address
        self.name = name
        self.logger = logger
        self.setUp = setUp
        self.commandPrefetch = commandPrefetch
        var ends: [Int32] = [0, 0]
        guard Self.makePipe(&ends) else { throw CohortError(.internal, "no pipe: \(String(cString: strerror(errno)))") }
        pipe = (ends[0], ends[1])
    }

    deinit {
        close(pipe.reading)
        close(pipe.writing)
    }

    private static func makePipe(_ ends: inout [Int32]) -> Bool {
        #if canImport(Glibc)
            Glibc.pipe(&ends) == 0 && ends.allSatisfy { fcntl($0, F_SETFD, FD_CLOEXEC) == 0 && fcntl($0, F_SETFL, O_NONBLOCK) == 0 }
        #else
            Darwin.pipe(&ends) == 0 && ends.allSatisfy { fcntl($0, F_SETFD, FD_CLOEXEC) == 0 && fcntl($0, F_SETFL, O_NONBLOCK) == 0 }
        #endif
    }

    // MARK: For any task

    /// Until the task is cancelled.
    /// - Throws: ``CohortError`` `invalid` or `unauthenticated` when the very first connection shows that what is set is wrong.
    func run() async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                watchingThread { continuation.resume(with: Result { try self.live() }) }
            }
        } onCancel: {
            state.withLock { $0.isStopping = true }
            wake()
        }
    }

    func ready() throws {
        if let reason = state.withLock({ $0.isConnected ? $0.blocked : $0.reason }) { throw away(reason) }
    }

    /// Runs `body` on the connection's thread.
    /// - Throws: ``CohortError`` `unavailable` when there is no connection within some seconds, or it breaks; what `translate` makes of a
    ///   refusal by the server.
    func perform<Value: Sendable>(
        _ translate: @escaping @Sendable (WireFault) -> CohortError = { CohortError(.internal, "RabbitMQ refuses: \($0)") },
        _ body: @escaping @Sendable (Wire) throws(WireFault) -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            add(
                Job(deadline: .now + Self.patience) { (wire, _) throws(WireFault) in
                    let value: Value
                    do throws(WireFault) {
                        value = try body(wire)
                    } catch {
                        if error.kind == .channel {
                            continuation.resume(throwing: translate(error))
                            return
                        }
                        continuation.resume(throwing: self.away("\(error)"))
                        throw error
                    }
                    continuation.resume(returning: value)
                } giveUp: {
                    continuation.resume(throwing: $0)
                })
        }
    }

    /// Returns when the server has each message safely.
    /// - Throws: ``CohortError`` `unavailable` when it has not, or is unavailable: try again; `notFound` when no queue takes
    ///   one of them.
    func publish(_ messages: [WireMessage]) async throws {
        guard !messages.isEmpty else { return }
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let tally = Tally(messages.count) { continuation.resume(with: $0) }
            add(
                Job(deadline: .now + Self.patience) { (wire, ledger) throws(WireFault) in
                    // All are waited for before the first is sent: a connection that breaks in between settles every one.
                    let numbers = messages.map { _ in ledger.confirms.next { tally.settle($0) } }
                    for (message, number) in zip(messages, numbers) {
                        try wire.publish(message, number: number, channel: Channel.publishing)
                    }
                } giveUp: { error in
                    for _ in messages { tally.settle(.failure(error)) }
                })
        }
    }

    /// Makes the queue if it is not there, and hands its messages on, over reconnections too, until it is cancelled.
    /// - Returns: the consumer's name.
    func consume(_ consumer: Consumer) async throws -> String {
        let name = "cohort-\(newIdentifier())"
        do {
            try await perform(Self.refusal) { wire throws(WireFault) in
                self.state.withLock { $0.consumers[name] = consumer }
                try Self.begin(consumer, named: name, on: wire, number: self.state.withLock { $0.number })
            }
        } catch {
            state.withLock { $0.consumers[name] = nil }
            throw error
        }
        return name
    }

    /// Hands messages on from the next connection on, and over reconnections.
    /// - Returns: the consumer's name.
    @discardableResult
    func attach(_ consumer: Consumer) -> String {
        let name = "cohort-\(newIdentifier())"
        let isConnected = state.withLock { state in
            state.consumers[name] = consumer
            return state.isConnected
        }
        if isConnected {
            add(
                Job(deadline: .now + Self.patience) { (wire, _) throws(WireFault) in
                    try self.resume(consumer, named: name, on: wire, number: self.state.withLock { $0.number })
                } giveUp: { _ in
                })
        }
        return name
    }

    /// Sends what may be lost: nothing tells whether it came.
    func broadcast(_ message: WireMessage) {
        add(
            Job(deadline: .now + Self.patience) { (wire, _) throws(WireFault) in
                try wire.publish(message, number: 0, channel: Channel.signals)
            } giveUp: { _ in
            })
    }

    /// Nothing of it is delivered any more; what it was given and has not settled goes back to the queue.
    func cancel(_ name: String) {
        add(
            Job(deadline: .now + .seconds(3_600)) { (wire, ledger) throws(WireFault) in
                guard let consumer = self.state.withLock({ $0.consumers.removeValue(forKey: name) }) else { return }
                do throws(WireFault) {
                    try wire.cancel(name, channel: consumer.channel)
                } catch {
                    // Else the server has cancelled it.
                    if error.kind != .channel { throw error }
                }
                for tag in ledger.deliveries.remove(of: name, channel: consumer.channel) {
                    try wire.reject(tag, requeue: true, channel: consumer.channel)
                }
            } giveUp: { _ in
                _ = self.state.withLock { $0.consumers.removeValue(forKey: name) }
            })
    }

    /// Settles a delivery, and does not wait until the server has heard of it: one that it does not hear of comes again.
    func settle(_ tag: UInt64, of connection: Int, channel: Int, _ how: Settling) {
        let isHeard = state.withLock { state in
            // One of an earlier connection comes again anyway.
            guard state.isConnected, state.number == connection else { return false }
            state.settlements.append(Settlement(tag: tag, connection: connection, channel: channel, how: how))
            return true
        }
        if isHeard { wake() }
    }

    static let refusal: @Sendable (WireFault) -> CohortError = { fault in
        switch fault.code {
        case 403: CohortError(.forbidden, "RabbitMQ does not allow it: \(fault)")
        case 404: CohortError(.notFound, "RabbitMQ does not have it: \(fault)")
        case 406:
            CohortError(
                .conflict,
                "RabbitMQ has this queue with other properties (\(fault)): delete it there, or put COHORT_BROKER_QUORUM back to what it was"
            )
        default: CohortError(.internal, "RabbitMQ refuses: \(fault)")
        }
    }

    func away(_ reason: String) -> CohortError { CohortError(.unavailable, "RabbitMQ at \(address) is away: \(reason)") }

    func add(_ job: Job) {
        let ended = state.withLock { state -> String? in
            if state.hasEnded { return state.reason }
            state.jobs.append(job)
            return nil
        }
        if let ended { job.giveUp(away(ended)) } else { wake() }
    }

    private func wake() {
        guard
            state.withLock({ state in
                defer { state.isAwake = true }
                return !state.isAwake
            })
        else { return }
        var byte: UInt8 = 0
        _ = write(pipe.writing, &byte, 1)
    }
}
