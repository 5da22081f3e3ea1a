import CohortCore
import CohortWire
import Logging
import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The work on the connection's thread.
extension RabbitMQConnection {
    func live() throws {
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
                var ledger = Ledger()
                do throws(WireFault) {
                    try begin(wire, isFirst: !hasConnected)
                    hasConnected = true
                    isAway = false
                    try serve(wire, &ledger)
                    wire.close(politely: true)
                    state.withLock { $0.isConnected = false }
                    ledger.confirms.fail(away("the connection was closed"))
                    return
                } catch {
                    wire.close(politely: false)
                    state.withLock { state in
                        state.isConnected = false
                        state.blocked = nil
                        state.reason = "\(error)"
                    }
                    ledger.confirms.fail(away("\(error)"))
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

    /// Bytes. An event is a peer's; commands may hold a small net's weights.
    static let maxEventBytes = 64 << 10
    private static let maxCommandBytes = 16 << 20
    private static let maxSignalBytes = 1 << 20

    private func begin(_ wire: Wire, isFirst: Bool) throws(WireFault) {
        try wire.open(channel: Channel.publishing, confirms: true)
        try wire.open(channel: Channel.control)
        // Many events are stored together; a peer's commands are few.
        try wire.open(channel: Channel.events, prefetch: 256, largest: Self.maxEventBytes)
        try wire.open(channel: Channel.commands, prefetch: commandPrefetch, largest: Self.maxCommandBytes)
        try wire.open(channel: Channel.signals, largest: Self.maxSignalBytes)
        try setUp(wire)
        let (consumers, number) = state.withLock { state in
            state.number += 1
            state.settlements = []
            return (state.consumers, state.number)
        }
        for (name, consumer) in consumers { try resume(consumer, named: name, on: wire, number: number) }
        state.withLock { $0.isConnected = true }
        logger.log(level: isFirst ? .info : .notice, "connected to RabbitMQ at \(address)")
    }

    /// Resumes a consumer; a queue that another process makes may be gone for good.
    func resume(_ consumer: Consumer, named name: String, on wire: Wire, number: Int) throws(WireFault) {
        do throws(WireFault) {
            try Self.begin(consumer, named: name, on: wire, number: number)
        } catch {
            guard consumer.kind == nil, error.kind == .channel, [403, 404].contains(error.code) else { throw error }
            state.withLock { $0.consumers.removeValue(forKey: name) }?.end()
        }
    }

    static func begin(_ consumer: Consumer, named name: String, on wire: Wire, number: Int) throws(WireFault) {
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
    private func serve(_ wire: Wire, _ ledger: inout Ledger) throws(WireFault) {
        while true {
            let (jobs, settlements, isStopping, blocked) = state.withLock { state in
                // It would not even read what they send.
                guard state.blocked == nil || state.isStopping else { return ([Job](), [Settlement](), false, state.blocked) }
                defer {
                    state.jobs = []
                    state.settlements = []
                }
                return (state.jobs, state.settlements, state.isStopping, nil)
            }
            // Before the jobs: a consumer that is cancelled gives back what is not settled.
            try settle(settlements, on: wire, ledger: &ledger)
            for (index, job) in jobs.enumerated() {
                do throws(WireFault) {
                    try job.run(wire, &ledger)
                } catch {
                    // Those after it wait for the next connection, in their order.
                    state.withLock { $0.jobs = Array(jobs[(index + 1)...]) + $0.jobs }
                    throw error
                }
            }
            if isStopping { return }
            var isBusy = !jobs.isEmpty || !settlements.isEmpty
            var count = 0
            while count < 1_000, let event = try wire.next() {
                count += 1
                try handle(event, on: wire, ledger: &ledger)
            }
            isBusy = isBusy || count > 0
            guard !isBusy else { continue }
            var limit = Duration.milliseconds(address.heartbeat * 250)
            if let blocked, let next = giveUpLate(blocked) { limit = min(limit, max(.zero, next - .now) + .milliseconds(1)) }
            wait(for: wire.descriptor, limit)
        }
    }

    private func handle(_ event: WireEvent, on wire: Wire, ledger: inout Ledger) throws(WireFault) {
        switch event {
        case .delivered(let delivery):
            let (consumer, number) = state.withLock { ($0.consumers[delivery.consumer], $0.number) }
            guard let consumer else {
                // On its way while its consumer was cancelled.
                return try wire.reject(delivery.tag, requeue: true, channel: delivery.channel)
            }
            if consumer.exchange == nil {
                ledger.deliveries.add(delivery.tag, channel: delivery.channel, consumer: delivery.consumer)
            }
            if let bytes = delivery.tooLarge {
                logger.warning(
                    "a message of \(bytes) bytes was not read: it is larger than any that Cohort sends",
                    metadata: ["consumer": "\(delivery.consumer)"])
                // Where messages are settled, it goes to the dead letters.
                if consumer.exchange == nil { settle(delivery.tag, of: number, channel: delivery.channel, .drop) }
                return
            }
            consumer.deliver(delivery, number)
        case .confirmed(let tag, let multiple, let isTaken):
            let outcome: Result<Void, CohortError> =
                isTaken ? .success(()) : .failure(CohortError(.unavailable, "RabbitMQ could not store the message: send it again"))
            if multiple { ledger.confirms.settle(through: tag, outcome) } else { ledger.confirms.settle(tag, outcome) }
        case .returned(let number):
            // Comes before its confirmation.
            ledger.confirms.settle(number, .failure(CohortError(.notFound, "there is no such queue any more")))
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

    /// Sends the settlements of tasks since the last call.
    private func settle(_ settlements: [Settlement], on wire: Wire, ledger: inout Ledger) throws(WireFault) {
        let number = state.withLock { $0.number }
        var acknowledged: [Int: Set<UInt64>] = [:]
        for settlement in settlements where settlement.connection == number {
            if settlement.how == .acknowledge {
                acknowledged[settlement.channel, default: []].insert(settlement.tag)
            } else if ledger.deliveries.remove(settlement.tag, channel: settlement.channel) {
                try wire.reject(settlement.tag, requeue: settlement.how == .requeue, channel: settlement.channel)
            }
        }
        for (channel, tags) in acknowledged {
            for (tag, isMultiple) in ledger.deliveries.acknowledge(tags, channel: channel) {
                try wire.acknowledge(tag, isMultiple: isMultiple, channel: channel)
            }
        }
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
        // In this order: a job that is added before this line writes no byte, and is seen by the following check of the jobs.
        state.withLock { $0.isAwake = false }
    }

    /// Fails jobs that have waited too long.
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
