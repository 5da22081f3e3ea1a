import CohortCore
import Synchronization
import Testing

@Suite("Broker")
struct BrokerTests {
    private let events = QueueName.events(sessionId: "s")

    private func stop(_ session: String) -> Command { .stop(StopCommand(sessionId: session, reason: .failed)) }
    private func enable(_ session: String, _ generation: Int) -> Command {
        .enable(EnableCommand(queue: "coordinator.\(session).events", sessionId: session, generation: generation))
    }
    private func refused(_ session: String, _ why: String) -> Command {
        .refused(RefusedCommand(sessionId: session, generation: 1, round: 0, attempt: 0, reason: why))
    }

    /// The next `count` messages, each settled as `settle` says.
    private func take(
        _ count: Int, from stream: AsyncThrowingStream<Delivery, any Error>,
        _ settle: @Sendable (Delivery) async throws -> Void = { try await $0.acknowledge() }
    ) async throws -> [[UInt8]] {
        var bodies: [[UInt8]] = []
        guard count > 0 else { return [] }
        for try await delivery in stream {
            bodies.append(delivery.body)
            try await settle(delivery)
            if bodies.count == count { break }
        }
        return bodies
    }

    @Test("Events come in their order, and a publisher is told when each is settled", arguments: BrokerKind.all)
    func order(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        try await broker.declare(events)
        try await broker.declare(events)
        let stream = try await broker.consume(events)
        async let outcome = broker.publish([[1], [2], [3]], to: events)
        let bodies = try await take(3, from: stream) { delivery in
            if delivery.body == [2] {
                try await delivery.reject(CohortError(.conflict, "too old"))
            } else {
                try await delivery.acknowledge()
            }
        }
        #expect(bodies == [[1], [2], [3]])
        #expect(try await outcome == [nil, CohortError(.conflict, "too old"), nil])
    }

    @Test("Nobody takes events: unavailable, so that they are sent again", arguments: BrokerKind.all)
    func nobody(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        try await broker.declare(events)
        await expectError(.unavailable) { try await broker.publish([[1]], to: events) }
        // What was given up is not delivered later.
        let stream = try await broker.consume(events)
        async let outcome = broker.publish([[2]], to: events)
        #expect(try await take(1, from: stream) == [[2]])
        #expect(try await outcome == [nil])
    }

    @Test("A command waits for its peer; not acknowledged, it is delivered again to the next consumer", arguments: BrokerKind.all)
    func redelivery(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        let queue = QueueName.command(peerId: "p")
        try await broker.declare(queue)
        for session in ["a", "b", "c"] { try await broker.send(stop(session), to: "p") }
        let wanted = try ["a", "b", "c"].map { try CohortJSON.encode(stop($0)) }
        let seen = try await take(2, from: try await broker.consume(queue)) { delivery in
            if delivery.body == wanted[0] { try await delivery.acknowledge() }
        }
        #expect(seen == Array(wanted[..<2]))
        #expect(try await take(2, from: try await broker.consume(queue)) == Array(wanted[1...]))
    }

    @Test("A newer consumer ends the older one", arguments: BrokerKind.all)
    func newerConsumer(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        let queue = QueueName.command(peerId: "p")
        let older = try await broker.consume(queue)
        let newer = try await broker.consume(queue)
        for try await _ in older { Issue.record("the older consumer gets nothing") }
        try await broker.send(stop("a"), to: "p")
        #expect(try await take(1, from: newer) == [try CohortJSON.encode(stop("a"))])
    }

    @Test("At most one command of a kind waits for each session, the newest; STOP replaces all of its session", arguments: BrokerKind.all)
    func coalescing(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        let queue = QueueName.command(peerId: "p")
        for generation in 1...2_000 {
            try await broker.send(enable("a", generation), to: "p")
            try await broker.send(refused("a", "\(generation)"), to: "p")
            try await broker.send(enable("b", generation), to: "p")
        }
        try await broker.send(stop("b"), to: "p")
        let waiting = try await take(3, from: try await broker.consume(queue)) { _ in }
        #expect(Set(waiting) == Set(try [enable("a", 2_000), refused("a", "2000"), stop("b")].map { try CohortJSON.encode($0) }))
        // STOP of the session that still had others.
        try await broker.send(stop("a"), to: "p")
        let last = try await take(2, from: try await broker.consume(queue)) { _ in }
        #expect(Set(last) == Set(try [stop("a"), stop("b")].map { try CohortJSON.encode($0) }))
    }

    @Test("A deleted queue ends its consumer and tells its publishers", arguments: BrokerKind.all)
    func deletion(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        try await broker.declare(events)
        let stream = try await broker.consume(events)
        let queue = events
        await expectError(.unavailable) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { _ = try await broker.publish([[1]], to: queue) }
                for try await _ in stream { try await broker.delete(queue) }
                try await group.next()
            }
        }
        try await broker.delete(events)

        try await broker.send(stop("a"), to: "p")
        try await broker.delete(.command(peerId: "p"))
        try await broker.send(stop("b"), to: "p")
        #expect(try await take(1, from: try await broker.consume(.command(peerId: "p"))) == [try CohortJSON.encode(stop("b"))])
    }

    @Test("Commands are sent, events are published: not the other way round", arguments: BrokerKind.all)
    func kinds(_ kind: BrokerKind) async throws {
        let broker = kind.make()
        await expectError(.invalid) { try await broker.publish([[1]], to: .command(peerId: "p")) }
    }
}
