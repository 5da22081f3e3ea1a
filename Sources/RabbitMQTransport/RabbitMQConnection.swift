import CohortCore
import CohortSystem
import Logging
import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The one connection of a process, on a thread of its own: what is asked of it is done there in turn, what the server says is handed on
/// from there. A connection that breaks is made again, for as long as it takes, with its consumers.
final class RabbitMQConnection: Sendable {
    /// Channels: a fault of one does not reach the others.
    enum Channel {
        /// With publisher confirms.
        static let publishing = 1
        /// Queues and exchanges.
        static let control = 2
        /// Consumers whose deliveries come many at a time, and one at a time.
        static let events = 3
        static let commands = 4
        /// What may be lost: published without confirms, consumed without acknowledgements.
        static let signals = 5
    }

    struct Consumer: Sendable {
        var queue: String
        /// A fan-out exchange: the queue is this connection's alone and bound to it, and what it delivers needs no settling.
        var exchange: String?
        /// nil: somebody else makes the queue.
        var kind: QueueKind?
        var channel: Int
        /// With the number of the connection it came by: its tag is good for that one.
        var deliver: @Sendable (WireDelivery, _ connection: Int) -> Void
        /// The queue is gone.
        var end: @Sendable () -> Void
    }

    /// How long what is asked waits for a connection.
    static let patience = Duration.seconds(5)

    private struct Job: Sendable {
        var deadline: ContinuousClock.Instant
        var run: @Sendable (Wire, inout Confirms) throws(WireFault) -> Void
        var giveUp: @Sendable (CohortError) -> Void
    }

    /// Messages on their way, by the number that the server confirms them with.
    struct Confirms {
        fileprivate(set) var last: UInt64 = 0
        fileprivate var lowest: UInt64 = 1
        fileprivate var waiting: [UInt64: @Sendable (Result<Void, CohortError>) -> Void] = [:]

        mutating func next(_ done: @escaping @Sendable (Result<Void, CohortError>) -> Void) -> UInt64 {
            last += 1
            waiting[last] = done
            return last
        }

        fileprivate mutating func settle(_ tag: UInt64, _ outcome: Result<Void, CohortError>) { waiting.removeValue(forKey: tag)?(outcome) }

        fileprivate mutating func settle(through tag: UInt64, _ outcome: Result<Void, CohortError>) {
            while lowest <= tag {
                settle(lowest, outcome)
                lowest += 1
            }
        }

        fileprivate func fail(_ error: CohortError) {
            for done in waiting.values { done(.failure(error)) }
        }
    }

    private struct State {
        var jobs: [Job] = []
        var consumers: [String: Consumer] = [:]
        /// Rises with every connection; tags of deliveries are good for one.
        var number = 0
        var isConnected = false
        var isStopping = false
        var hasEnded = false
        /// Why there is no connection.
        var reason = "not connected yet"
        /// Why the server takes nothing, while there is one.
        var blocked: String?
        var isAwake = false
    }

    private let address: RabbitMQAddress
    private let name: String
    private let logger: Logger
    private let commandPrefetch: Int
    private let setUp: @Sendable (Wire) throws(WireFault) -> Void
    private let state = Mutex(State())
    private let pipe: (reading: Int32, writing: Int32)

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
    /// - Throws: ``CohortError`` `unavailable` when it has not, or cannot be asked: trying again is right; `notFound` when no queue takes
    ///   one of them.
    func publish(_ messages: [WireMessage]) async throws {
        guard !messages.isEmpty else { return }
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let tally = Tally(messages.count) { continuation.resume(with: $0) }
            add(
                Job(deadline: .now + Self.patience) { (wire, confirms) throws(WireFault) in
                    // All are waited for before the first is sent: a connection that breaks in between settles every one.
                    let numbers = messages.map { _ in confirms.next { tally.settle($0) } }
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
                try Self.begin(consumer, name, wire, number: self.state.withLock { $0.number })
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
                    try self.resume(consumer, name, wire, number: self.state.withLock { $0.number })
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
    func cancel(_ name: String, returning tags: @escaping @Sendable (_ connection: Int) -> [UInt64]) {
        add(
            Job(deadline: .now + .seconds(3_600)) { (wire, _) throws(WireFault) in
                let (consumer, number) = self.state.withLock { ($0.consumers.removeValue(forKey: name), $0.number) }
                guard let consumer else { return }
                do throws(WireFault) {
                    try wire.cancel(name, channel: consumer.channel)
                } catch {
                    // Else the server has cancelled it.
                    if error.kind != .channel { throw error }
                }
                for tag in tags(number) { try wire.reject(tag, requeue: true, channel: consumer.channel) }
            } giveUp: { _ in
                _ = self.state.withLock { $0.consumers.removeValue(forKey: name) }
            })
    }

    /// Settles a delivery; one of an earlier connection comes again anyway.
    func settle(_ tag: UInt64, of connection: Int, channel: Int, _ how: Settling) async throws {
        try await perform { wire throws(WireFault) in
            guard self.state.withLock({ $0.number == connection }) else { return }
            switch how {
            case .acknowledge: try wire.acknowledge(tag, channel: channel)
            case .drop: try wire.reject(tag, requeue: false, channel: channel)
            case .requeue: try wire.reject(tag, requeue: true, channel: channel)
            }
        }
    }

    /// Rejects a delivery, from the connection's own thread.
    func drop(_ delivery: WireDelivery, _ number: Int) {
        add(
            Job(deadline: .now + .seconds(60)) { (wire, _) throws(WireFault) in
                guard self.state.withLock({ $0.number == number }) else { return }
                try wire.reject(delivery.tag, requeue: false, channel: delivery.channel)
            } giveUp: { _ in
            })
    }

    enum Settling: Sendable { case acknowledge, drop, requeue }

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

    private func away(_ reason: String) -> CohortError { CohortError(.unavailable, "RabbitMQ at \(address) is away: \(reason)") }

    private func add(_ job: Job) {
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

    // MARK: On its thread

    private func live() throws {
        var backoff = 0.1
        var hasConnected = false
        var isAway = false
        defer {
            let left = state.withLock { state in
                state.hasEnded = true
                state.isConnected = false
                state.reason = "the connection was closed"
                defer { state.jobs = [] }
                return state.jobs
            }
            for job in left { job.giveUp(away("the connection was closed")) }
            for consumer in state.withLock({ $0.consumers.values }) { consumer.end() }
        }
        while !state.withLock({ $0.isStopping }) {
            let fault: WireFault
            let since = ContinuousClock.now
            do throws(WireFault) {
                let wire = try Wire(address, name: name)
                var confirms = Confirms()
                do throws(WireFault) {
                    try begin(wire, isFirst: !hasConnected)
                    hasConnected = true
                    isAway = false
                    try serve(wire, &confirms)
                    wire.close(politely: true)
                    state.withLock { $0.isConnected = false }
                    confirms.fail(away("the connection was closed"))
                    return
                } catch {
                    wire.close(politely: false)
                    state.withLock { state in
                        state.isConnected = false
                        state.blocked = nil
                        state.reason = "\(error)"
                    }
                    confirms.fail(away("\(error)"))
                    fault = error
                }
            } catch {
                fault = error
            }
            if !hasConnected, fault.isForGood {
                state.withLock { $0.reason = "\(fault)" }
                throw CohortError(
                    fault.kind == .refused ? .unauthenticated : .invalid,
                    fault.kind == .refused
                        ? "RabbitMQ at \(address) refuses user '\(address.user)' or virtual host '\(address.vhost)': \(fault)"
                        : "RabbitMQ at \(address) cannot be used: \(fault)")
            }
            state.withLock { $0.reason = "\(fault)" }
            if !isAway { logger.warning("RabbitMQ at \(address) is away, connecting until it is there: \(fault)") }
            isAway = true
            if ContinuousClock.now - since > .seconds(5) { backoff = 0.1 }
            rest(.seconds(backoff * Double.random(in: 0.75...1.25)))
            backoff = min(backoff * 2, 5)
        }
    }

    private func begin(_ wire: Wire, isFirst: Bool) throws(WireFault) {
        try wire.open(channel: Channel.publishing, confirms: true)
        try wire.open(channel: Channel.control)
        // Many events are stored together; a peer's commands are few.
        try wire.open(channel: Channel.events, prefetch: 256)
        try wire.open(channel: Channel.commands, prefetch: commandPrefetch)
        try wire.open(channel: Channel.signals)
        try setUp(wire)
        let (consumers, number) = state.withLock { state in
            state.number += 1
            return (state.consumers, state.number)
        }
        for (name, consumer) in consumers { try resume(consumer, name, wire, number: number) }
        state.withLock { $0.isConnected = true }
        logger.log(level: isFirst ? .info : .notice, "connected to RabbitMQ at \(address)")
    }

    /// A queue that somebody else makes may be gone for good.
    private func resume(_ consumer: Consumer, _ name: String, _ wire: Wire, number: Int) throws(WireFault) {
        do throws(WireFault) {
            try Self.begin(consumer, name, wire, number: number)
        } catch {
            guard consumer.kind == nil, error.kind == .channel, [403, 404].contains(error.code) else { throw error }
            state.withLock { $0.consumers.removeValue(forKey: name) }?.end()
        }
    }

    private static func begin(_ consumer: Consumer, _ name: String, _ wire: Wire, number: Int) throws(WireFault) {
        if let exchange = consumer.exchange {
            // Of another name each time: the server may not have noticed yet that the connection of the last one is gone.
            let queue = "\(consumer.queue).\(number)"
            try wire.declare(exchange: exchange, .fanout, channel: Channel.control)
            if let kind = consumer.kind { try wire.declare(queue, kind, channel: Channel.control) }
            try wire.bind(queue, to: exchange, channel: Channel.control)
            return try wire.consume(queue, as: name, priority: 0, isSettled: true, channel: consumer.channel)
        }
        if let kind = consumer.kind { try wire.declare(consumer.queue, kind, channel: Channel.control) }
        // A newer consumer of a queue is given its messages before an older one, wherever that runs.
        try wire.consume(
            consumer.queue, as: name, priority: Int32(truncatingIfNeeded: time(nil) & 0x7fff_ffff), isSettled: false,
            channel: consumer.channel)
    }

    /// Until it is stopped.
    private func serve(_ wire: Wire, _ confirms: inout Confirms) throws(WireFault) {
        while true {
            let (jobs, isStopping, blocked) = state.withLock { state in
                // It would not even read what they send.
                guard state.blocked == nil || state.isStopping else { return ([Job](), false, state.blocked) }
                defer { state.jobs = [] }
                return (state.jobs, state.isStopping, nil)
            }
            for (index, job) in jobs.enumerated() {
                do throws(WireFault) {
                    try job.run(wire, &confirms)
                } catch {
                    // Those after it wait for the next connection, in their order.
                    state.withLock { $0.jobs = Array(jobs[(index + 1)...]) + $0.jobs }
                    throw error
                }
            }
            if isStopping { return }
            var isBusy = !jobs.isEmpty
            var count = 0
            while count < 1_000, let event = try wire.next() {
                count += 1
                try take(event, &confirms)
            }
            isBusy = isBusy || count > 0
            guard !isBusy else { continue }
            var limit = Duration.milliseconds(address.heartbeat * 250)
            if let blocked, let next = giveUpLate(blocked) { limit = min(limit, max(.zero, next - .now) + .milliseconds(1)) }
            wait(for: wire.descriptor, limit)
        }
    }

    private func take(_ event: WireEvent, _ confirms: inout Confirms) throws(WireFault) {
        switch event {
        case .delivered(let delivery):
            let (consumer, number) = state.withLock { ($0.consumers[delivery.consumer], $0.number) }
            if let consumer {
                consumer.deliver(delivery, number)
            } else {
                try giveBack(delivery)
            }
        case .confirmed(let tag, let multiple, let isTaken):
            let outcome: Result<Void, CohortError> =
                isTaken ? .success(()) : .failure(CohortError(.unavailable, "RabbitMQ could not store the message: send it again"))
            if multiple { confirms.settle(through: tag, outcome) } else { confirms.settle(tag, outcome) }
        case .returned(let number):
            // Comes before its confirmation.
            confirms.settle(number, .failure(CohortError(.notFound, "there is no such queue any more")))
        case .cancelled(let name):
            state.withLock { $0.consumers.removeValue(forKey: name) }?.end()
        case .blocked(let reason):
            logger.warning("RabbitMQ at \(address) takes nothing just now (\(reason)): messages wait until it has room")
            state.withLock { $0.blocked = "it takes nothing just now (\(reason))" }
        case .unblocked:
            logger.notice("RabbitMQ at \(address) takes messages again")
            state.withLock { $0.blocked = nil }
        case .closed(let code, let text):
            throw WireFault(kind: .away, code: code, text: "the server closed a channel: \(text)")
        }
    }

    /// A delivery on its way while its consumer was cancelled: `cancel` could not know of it.
    private func giveBack(_ delivery: WireDelivery) throws(WireFault) {
        add(
            Job(deadline: .now + .seconds(60)) { (wire, _) throws(WireFault) in
                try wire.reject(delivery.tag, requeue: true, channel: delivery.channel)
            } giveUp: { _ in
            })
    }

    /// Until the server says something, or something is asked.
    private func wait(for descriptor: Int32, _ limit: Duration) {
        var sources = [
            pollfd(fd: pipe.reading, events: Int16(POLLIN), revents: 0), pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
        ]
        poll(&sources, nfds_t(descriptor < 0 ? 1 : 2), Int32(limit / .milliseconds(1)))
        drain()
    }

    private func drain() {
        var bytes = [UInt8](repeating: 0, count: 64)
        while read(pipe.reading, &bytes, bytes.count) > 0 {}
        // In this order: whoever adds before this line writes no byte, and is seen by the look at the jobs that follows.
        state.withLock { $0.isAwake = false }
    }

    /// Jobs that have waited long enough are given up.
    /// - Returns: when the next of them will have.
    private func giveUpLate(_ reason: String) -> ContinuousClock.Instant? {
        let now = ContinuousClock.now
        let (late, next) = state.withLock { state in
            let late = state.jobs.filter { $0.deadline <= now }
            state.jobs.removeAll { $0.deadline <= now }
            return (late, state.jobs.map(\.deadline).min())
        }
        for job in late { job.giveUp(away(reason)) }
        return next
    }

    /// Without a connection.
    private func rest(_ duration: Duration) {
        let end = ContinuousClock.now + duration
        while !state.withLock({ $0.isStopping }) {
            let now = ContinuousClock.now
            let next = giveUpLate(state.withLock { $0.reason })
            guard now < end else { return }
            wait(for: -1, min(end, next ?? end) - now + .milliseconds(1))
        }
    }
}

/// Counts the outcomes of messages published together; the first failure is the one to tell.
private final class Tally: Sendable {
    private let state: Mutex<(left: Int, failure: CohortError?)>
    private let done: @Sendable (Result<Void, any Error>) -> Void

    init(_ count: Int, _ done: @escaping @Sendable (Result<Void, any Error>) -> Void) {
        state = Mutex((count, nil))
        self.done = done
    }

    func settle(_ outcome: Result<Void, CohortError>) {
        let (isOver, failure) = state.withLock { state in
            if case .failure(let error) = outcome { state.failure = state.failure ?? error }
            state.left -= 1
            return (state.left == 0, state.failure)
        }
        if isOver { done(failure.map { .failure($0) } ?? .success(())) }
    }
}
