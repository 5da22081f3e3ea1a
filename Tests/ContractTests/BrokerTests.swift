import CohortCore
import CohortWire
import Synchronization
import TestSupport
import Testing

@Suite
struct BrokerTests {
    // Of each test its own: a real server is shared by all.
    private let session = newIdentifier()
    private let peer = newIdentifier()
    private var events: QueueName { .events(sessionId: session) }

    private func stop(_ session: String) -> Command { .stop(StopCommand(sessionId: session, reason: .failed)) }
    private func enable(_ session: String, _ generation: Int) -> Command {
        .enable(EnableCommand(queue: "coordinator.\(session).events", sessionId: session, generation: generation))
    }
    private func refused(_ session: String, _ why: String) -> Command {
        .refused(RefusedCommand(sessionId: session, generation: 1, round: 0, attempt: 0, reason: why))
    }

    /// The next `count` events, each settled as `settle` says.
    private func receive(
        _ count: Int, from stream: AsyncThrowingStream<ReceivedEvent, any Error>,
        _ settle: @Sendable (ReceivedEvent) async throws -> Void = { try await $0.settle(.accepted) }
    ) async throws -> [[UInt8]] {
        var bodies: [[UInt8]] = []
        guard count > 0 else { return [] }
        for try await event in stream {
            bodies.append(event.body)
            try await settle(event)
            if bodies.count == count { break }
        }
        return bodies
    }

    /// The next `count` commands of a peer; none is acknowledged.
    private func told(_ count: Int, _ peer: String, by broker: any PeerGateway) async throws -> [QueuedCommand] {
        var commands: [QueuedCommand] = []
        for try await command in try await broker.commands(of: peer) {
            commands.append(command)
            if commands.count == count { break }
        }
        return commands
    }

    @Test(arguments: BrokerKind.all)
    func `Events come in their order, with who sent them, and are published once each is settled`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            try await broker.open(events)
            try await broker.open(events)
            let stream = try await broker.events(of: events)
            async let published: Void = broker.publish([[1], [2], [3]], from: peer, to: events)
            let bodies = try await receive(3, from: stream) { event in
                #expect(event.sender == peer)
                try await event.settle(event.body == [2] ? .refused(CohortError(.conflict, "too old")) : .accepted)
            }
            #expect(bodies == [[1], [2], [3]])
            try await published
            async let next: Void = broker.publish([[4]], from: "q", to: events)
            _ = try await receive(1, from: try await broker.events(of: events)) { event in
                #expect(event.body == [4] && event.sender == "q", "what was refused does not come again")
                try await event.settle(.accepted)
            }
            try await next
        }
    }

    @Test(arguments: BrokerKind.all)
    func `What is released comes again`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            try await broker.open(events)
            let stream = try await broker.events(of: events)
            async let published: Void = broker.publish([[1]], from: peer, to: events)
            let tries = Mutex(0)
            let bodies = try await receive(3, from: stream) { event in
                let count = tries.withLock { tries in
                    tries += 1
                    return tries
                }
                try await event.settle(count < 3 ? .released : .accepted)
            }
            #expect(bodies == [[1], [1], [1]])
            try await published
        }
    }

    @Test(arguments: BrokerKind.all)
    func `Without a consumer events are kept, or refused as unavailable, so that they are sent again`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            try await broker.open(events)
            #expect(await !broker.isConsumed(events))
            if kind.keepsEvents {
                try await broker.publish([[1]], from: peer, to: events)
            } else {
                await expectError(.unavailable) { try await broker.publish([[1]], from: peer, to: events) }
            }
            // Refused events are not delivered later; kept ones are.
            let stream = try await broker.events(of: events)
            if kind.keepsEvents { #expect(try await receive(1, from: stream) == [[1]]) }
            #expect(await broker.isConsumed(events))
            async let published: Void = broker.publish([[2]], from: peer, to: events)
            #expect(try await receive(1, from: stream) == [[2]])
            try await published
        }
    }

    @Test(arguments: BrokerKind.all)
    func `A command waits for its peer; not acknowledged, it comes again with the next stream`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            for session in ["a", "b", "c"] { try await broker.send(stop(session), to: peer) }
            let wanted = try ["a", "b", "c"].map { try CohortJSON.encode(stop($0)) }
            let seen = try await told(2, peer, by: broker)
            #expect(seen.map(\.body) == Array(wanted[..<2]))
            #expect(seen[0].id < seen[1].id)
            try await broker.acknowledge(peerId: peer, through: seen[0].id)
            #expect(try await told(2, peer, by: broker).map(\.body) == Array(wanted[1...]))
        }
    }

    @Test(arguments: BrokerKind.all)
    func `A newer consumer ends the older one`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            let older = try await broker.commands(of: peer)
            let newer = try await broker.commands(of: peer)
            for try await _ in older { Issue.record("the older stream gets nothing") }
            try await broker.send(stop("a"), to: peer)
            for try await command in newer {
                #expect(try command.body == CohortJSON.encode(stop("a")))
                break
            }
            let (first, second) = (try await broker.events(of: events), try await broker.events(of: events))
            for try await _ in first { Issue.record("the older consumer gets nothing") }
            async let published: Void = broker.publish([[1]], from: peer, to: events)
            #expect(try await receive(1, from: second) == [[1]])
            try await published
        }
    }

    @Test(arguments: BrokerKind.all.filter { !$0.keepsEvents })
    func `At most one command of a kind waits for each session, the newest; STOP replaces all of its session`(_ kind: BrokerKind)
        async throws
    {
        try await kind.with { broker in
            for generation in 1...2_000 {
                try await broker.send(enable("a", generation), to: peer)
                try await broker.send(refused("a", "\(generation)"), to: peer)
                try await broker.send(enable("b", generation), to: peer)
            }
            try await broker.send(stop("b"), to: peer)
            let waiting = try await told(3, peer, by: broker).map(\.body)
            #expect(Set(waiting) == Set(try [enable("a", 2_000), refused("a", "2000"), stop("b")].map { try CohortJSON.encode($0) }))
            // STOP of the session that still had others.
            try await broker.send(stop("a"), to: peer)
            let last = try await told(2, peer, by: broker).map(\.body)
            #expect(Set(last) == Set(try [stop("a"), stop("b")].map { try CohortJSON.encode($0) }))
        }
    }

    @Test(arguments: BrokerKind.all)
    func `A closed queue ends its consumer and tells its publishers; a forgotten peer's commands are gone`(_ kind: BrokerKind) async throws
    {
        try await kind.with { broker in
            try await broker.open(events)
            let stream = try await broker.events(of: events)
            let queue = events
            func closeAtFirst() async throws {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await broker.publish([[1]], from: peer, to: queue) }
                    for try await _ in stream { try await broker.close(queue) }
                    try await group.next()
                }
            }
            if kind.keepsEvents { try await closeAtFirst() } else { await expectError(.unavailable) { try await closeAtFirst() } }
            try await broker.close(events)
            await expectError(.unavailable) { try await broker.publish([[1]], from: peer, to: queue) }

            try await broker.send(stop("a"), to: peer)
            try await broker.forget(peer: peer)
            try await broker.forget(peer: peer)
            try await broker.send(stop("b"), to: peer)
            #expect(try await told(1, peer, by: broker).map(\.body) == [try CohortJSON.encode(stop("b"))])
        }
    }

    @Test(arguments: BrokerKind.all)
    func `Commands are sent, events are published: not the other way round`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            await expectError(.invalid) { try await broker.publish([[1]], from: peer, to: .command(peerId: peer)) }
        }
    }

    /// Its end and a delivery may not wait for each other.
    @Test(.timeLimit(.minutes(2)), arguments: BrokerKind.all)
    func `A stream that is cancelled while messages come stops nothing`(_ kind: BrokerKind) async throws {
        try await kind.with { broker in
            // A real server makes and removes a queue each time.
            for _ in 0..<(kind.keepsEvents ? 20 : 200) {
                let peer = newIdentifier()
                let consumer = Task { for try await _ in try await broker.commands(of: peer) {} }
                let sender = Task {
                    for _ in 0..<4 { try await broker.send(.stop(StopCommand(sessionId: newIdentifier(), reason: .completed)), to: peer) }
                }
                await Task.yield()
                consumer.cancel()
                _ = await consumer.result
                _ = try await sender.value
                try await broker.forget(peer: peer)
            }
        }
    }
}
