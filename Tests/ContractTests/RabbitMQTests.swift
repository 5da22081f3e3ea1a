import CohortAPI
import CohortCore
import CohortWire
import Foundation
import Logging
import TestSupport
import Testing

@testable import RabbitMQTransport

@Suite struct RabbitMQAddressTests {
    @Test func `a URL is read with its defaults, codes and parameters`() throws {
        let plain = try RabbitMQAddress("amqp://host", setting: "X")
        #expect(!plain.isTLS && plain.host == "host" && plain.port == 5672 && plain.vhost == "/" && plain.user == "guest")
        let full = try RabbitMQAddress(
            "amqps://lena:p%40s%2Fs@[::1]:5000/my%2Fhost?cacertfile=/a%20b.pem&certfile=c&keyfile=k&verify=verify_none&heartbeat=7&connection_timeout=1500",
            setting: "X")
        #expect(full.isTLS && full.host == "::1" && full.port == 5000 && full.vhost == "my/host")
        #expect(full.user == "lena" && full.password == "p@s/s" && full.caFile == "/a b.pem")
        #expect(full.certificateFile == "c" && full.keyFile == "k" && !full.verifiesPeer && full.heartbeat == 7 && full.timeout == 1.5)
        #expect(!"\(full)".contains("p@s") && "\(full)".contains("::1"), "no password in a log")
        #expect(try RabbitMQAddress("amqps://host", setting: "X").verifiesPeer, "on unless it is switched off")
    }

    @Test(arguments: [
        ("http://host", "neither amqp nor amqps"), ("amqp://", "the host is missing"), ("amqp://host:0", "port"), ("amqp://host:x", "port"),
        ("amqp://host:70000", "port"), ("amqp://u:%zz@host", "password has a bad % code"), ("amqp://[::1", "']' is missing"),
        ("amqp://host?verify=maybe", "verify_peer or verify_none"), ("amqp://host?heartbeat=0", "heartbeat"),
        ("amqp://host?colour=red", "unknown parameter 'colour'"), ("amqp://host?cacertfile=a", "are for amqps"),
        ("amqps://host?certfile=a", "go together"), ("amqp://host/%00", "virtual host has a bad % code"),
    ]) func `faults are reported, with the setting and without the password`(url: String, sentence: String) {
        let error = #expect(throws: CohortError.self) { try RabbitMQAddress(url, setting: "COHORT_BROKER_URL") }
        #expect(error?.code == .invalid && error?.message.contains(sentence) == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("COHORT_BROKER_URL") == true && error?.message.contains("%zz") == false)
    }

    @Test func `a signature is good for its body, peer and registration, and for nothing else`() {
        let signatures = MessageSignatures(secret: testSecret)
        let key = signatures.key(peerId: "p", registration: 3)
        let signature = MessageSignatures.sign([1, 2], key: key)
        #expect(key.utf8.count == 64 && signature.utf8.count == 64)
        #expect(signatures.isGood(signature, of: [1, 2], peerId: "p", registration: 3))
        #expect(!signatures.isGood(signature, of: [1, 3], peerId: "p", registration: 3))
        #expect(!signatures.isGood(signature, of: [1, 2], peerId: "q", registration: 3))
        #expect(!signatures.isGood(signature, of: [1, 2], peerId: "p", registration: 0))
        #expect(!signatures.isGood("", of: [1, 2], peerId: "p", registration: 3))
        #expect(!MessageSignatures(secret: [9]).isGood(signature, of: [1, 2], peerId: "p", registration: 3))
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] != nil, "no RabbitMQ: `make integration` starts one"))
    func `an unsigned event, or one signed for another peer, never reaches the coordinator`() async throws {
        let address = try RabbitMQAddress(ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] ?? "", setting: "X")
        let signatures = MessageSignatures(secret: testSecret)
        let broker = try RabbitMQTransport(
            .init(address: address), signatures: signatures, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let queue = QueueName.events(sessionId: newIdentifier())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await broker.run() }
            group.addTask {
                let stream = try await broker.events(of: queue)
                let good = MessageSignatures.sign([1], key: signatures.key(peerId: "p", registration: 1))
                for (sender, registration, signature) in [
                    (nil, nil, nil), ("p", "1", nil), ("q", "1", good), ("p", "2", good), ("p", "x", good), ("p", "1", "00"),
                ] as [(String?, String?, String?)] {
                    try await broker.connection.publish([
                        WireMessage(key: queue.rawValue, body: [1], sender: sender, registration: registration, signature: signature)
                    ])
                }
                try await broker.connection.publish([
                    WireMessage(key: queue.rawValue, body: [1], sender: "p", registration: "1", signature: good)
                ])
                for try await event in stream {
                    #expect(event.sender == "p")
                    try await event.settle(.accepted)
                    break
                }
                try await broker.close(queue)
                await expectError(.notFound) {
                    try await broker.connection.publish([WireMessage(key: queue.rawValue, body: [1])])
                }
            }
            try await group.next()
            group.cancelAll()
        }
    }

    private static func broker(secret: [UInt8] = testSecret, admin: String? = nil) throws -> RabbitMQTransport {
        let address = try RabbitMQAddress(ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] ?? "", setting: "X")
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let access = try admin.map { try PeerAccess(address: address, admin: $0, setting: "X", logger: logger) }
        return try RabbitMQTransport(
            .init(address: address, access: access), signatures: MessageSignatures(secret: secret), logger: logger)
    }

    /// Runs `body` while all of them are connected.
    private static func run(_ brokers: [RabbitMQTransport], _ body: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for broker in brokers { group.addTask { try await broker.run() } }
            group.addTask {
                for broker in brokers {
                    while (try? await broker.ready()) == nil { try await Task.sleep(for: .milliseconds(5)) }
                }
                try await body()
            }
            try await group.next()
            group.cancelAll()
        }
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_AMQPS_URL"] != nil, "no RabbitMQ: `make integration` starts one"))
    func `a client certificate is shown, and one that the server does not trust ends the start`() async throws {
        let environment = ProcessInfo.processInfo.environment
        let (url, folder) = (environment["COHORT_TEST_AMQPS_URL"] ?? "", "\(environment["COHORT_TEST_RABBITMQ_FOLDER"] ?? "")/tls")
        func broker(_ name: String) throws -> RabbitMQTransport {
            let address = try RabbitMQAddress("\(url)&certfile=\(folder)/\(name).pem&keyfile=\(folder)/\(name).key", setting: "X")
            return try RabbitMQTransport(
                .init(address: address), signatures: MessageSignatures(secret: testSecret),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        }
        try await Self.run([try broker("client")]) {}
        let stranger = try broker("other")
        let error = await #expect(throws: CohortError.self) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await stranger.run() }
                group.addTask {
                    // It would be let in, or kept waiting.
                    for _ in 0..<1_000 where (try? await stranger.ready()) == nil { try await Task.sleep(for: .milliseconds(20)) }
                }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
        #expect(error?.message.contains("does not take the client certificate") == true, "\(error?.message ?? "")")
    }

    /// A body is looked at by its size before there is memory for it; what is of the right size, in several frames too, comes whole.
    @Test(
        .timeLimit(.minutes(2)),
        .enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] != nil, "no RabbitMQ: `make integration` starts one"))
    func `a message that is too large is not read, and those around it are`() async throws {
        let signatures = MessageSignatures(secret: testSecret)
        let key = signatures.key(peerId: "p", registration: 1)
        let address = try RabbitMQAddress(ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] ?? "", setting: "X")
        let broker = try RabbitMQTransport(
            .init(address: address), signatures: signatures, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let queue = QueueName.events(sessionId: newIdentifier())
        // 64 KiB and one byte more; 5 MiB are forty frames.
        let bodies = [1, 65_536, 65_537, 0, 5 << 20, 40_000, 2].map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0) } }
        try await Self.run([broker]) {
            let stream = try await broker.events(of: queue)
            for body in bodies {
                try await broker.connection.publish([
                    WireMessage(
                        key: queue.rawValue, body: body, sender: "p", registration: "1", signature: MessageSignatures.sign(body, key: key))
                ])
            }
            var expected = bodies.filter { $0.count <= 65_536 }[...]
            for try await event in stream {
                #expect(event.body == expected.popFirst())
                try await event.settle(.accepted)
                if expected.isEmpty { break }
            }
            try await broker.close(queue)
        }
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] != nil, "no RabbitMQ: `make integration` starts one"))
    func `what one process signals all others hear, and not itself, nor who has another secret`() async throws {
        let (one, two, stranger) = (try Self.broker(), try Self.broker(), try Self.broker(secret: [UInt8](repeating: 8, count: 32)))
        try await Self.run([one, two, stranger]) {
            let (atOne, atTwo) = (await one.signals(), await two.signals())
            // Another test's signals go over the same exchange: they are distinguished by their session.
            let (a, b, c) = (newIdentifier(), newIdentifier(), newIdentifier())
            var notice = SessionNotice(sessionId: a, kind: .epoch, time: moment(0.5), message: "epoch 1")
            notice.loss = 0.5
            await stranger.send(.wake(sessionId: c))
            await one.send(.notice(notice))
            await two.send(.wake(sessionId: b))
            func first(of stream: AsyncStream<Signal>) async -> Signal? {
                for await signal in stream where [.notice(notice), .wake(sessionId: b), .wake(sessionId: c)].contains(signal) {
                    return signal
                }
                return nil
            }
            #expect(await first(of: atTwo) == .notice(notice))
            #expect(await first(of: atOne) == .wake(sessionId: b))
        }
    }

    @Test(
        .timeLimit(.minutes(2)),
        .enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_URL"] != nil, "no RabbitMQ: `make integration` starts one"))
    func `a peer that goes over to another server receives there what it has not acknowledged`() async throws {
        let (one, two) = (try Self.broker(), try Self.broker())
        let peer = newIdentifier()
        let command = Command.stop(StopCommand(sessionId: newIdentifier(), reason: .completed))
        try await Self.run([one, two]) {
            let atOne = try await one.commands(of: peer)
            try await two.send(command, to: peer)
            for try await queued in atOne {
                #expect(try CohortJSON.decode(Command.self, from: queued.body) == command)
                break
            }
            for try await queued in try await two.commands(of: peer) {
                #expect(try CohortJSON.decode(Command.self, from: queued.body) == command)
                try await two.acknowledge(peerId: peer, through: queued.id)
                break
            }
            // The first released it at once, and was not merely cut off by the server's time-out.
            for try await _ in atOne {}
            try await two.forget(peer: peer)
        }
    }

    @Test(
        .enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_ADMIN_URL"] != nil, "no RabbitMQ: `make integration` starts one")
    )
    func `a peer's own account reads its commands and sends its events, and can do nothing else`() async throws {
        let broker = try Self.broker(admin: ProcessInfo.processInfo.environment["COHORT_TEST_AMQP_ADMIN_URL"])
        let (peer, other) = (newIdentifier(), newIdentifier())
        let session = QueueName.events(sessionId: newIdentifier())
        try await Self.run([broker]) {
            let address = try #require(try await broker.admit(peerId: peer, registration: 1))
            _ = try await broker.admit(peerId: other, registration: 1)
            let events = try await broker.events(of: session)
            try await broker.open(session)
            let registered = API.Registered(peerId: peer, registration: 1, credential: "", broker: address, heartbeatInterval: 1)
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let transport = try RabbitMQPeerTransport(
                peerId: registered.peerId, registration: registered.registration, broker: registered.broker, caFile: nil, logger: logger
            ) {
                try await Task.sleep(for: .seconds(3_600))
            }
            let own = try RabbitMQConnection(
                RabbitMQAddress(try #require(address.url), setting: "X"), name: "another of the peer's", logger: logger)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await transport.run() }
                group.addTask { try await own.run() }
                group.addTask {
                    while (try? own.ready()) == nil { try await Task.sleep(for: .milliseconds(5)) }
                    let command = Command.stop(StopCommand(sessionId: newIdentifier(), reason: .completed))
                    try await broker.send(command, to: peer)
                    for try await received in try await transport.commands() {
                        #expect(try CohortJSON.decode(Command.self, from: received.body) == command)
                        try await received.accept()
                        break
                    }
                    let progress = ProgressEvent(sessionId: "s", peerId: peer, generation: 1, phase: .loading, progress: 0.5)
                    try await transport.send([.progress(progress)], to: session)
                    for try await event in events {
                        #expect(event.sender == peer)
                        #expect(try CohortJSON.decode(PeerEvent.self, from: event.body) == .progress(progress))
                        try await event.settle(.accepted)
                        break
                    }
                    // In another's name, with the other's header or none of the account: no coordinator is given it.
                    let key = try #require(address.key)
                    for (sender, registration) in [(other, "1"), (peer, "2"), (other, "0")] {
                        try await own.publish([
                            WireMessage(
                                exchange: RabbitMQTransport.eventExchange, key: session.rawValue, body: [1], sender: sender,
                                registration: registration, signature: MessageSignatures.sign([1], key: key))
                        ])
                    }
                    // What its account may not do closes a channel: a connection for each.
                    for message in [
                        WireMessage(key: QueueName.command(peerId: other).rawValue, body: [1]),
                        WireMessage(key: session.rawValue, body: [1]),
                        WireMessage(exchange: RabbitMQTransport.eventExchange, key: "peer.\(other).command", body: [1]),
                        WireMessage(exchange: "cohort.signals", key: "", body: [1]),
                        WireMessage(
                            exchange: RabbitMQTransport.eventExchange, key: session.rawValue, body: [1], userId: "cohort.peer.\(other)"),
                    ] {
                        await expectError(.unavailable) { try await own.publish([message]) }
                        while (try? own.ready()) == nil { try await Task.sleep(for: .milliseconds(5)) }
                    }
                    for queue in [QueueName.command(peerId: other).rawValue, session.rawValue, RabbitMQTransport.deadLetters] {
                        await expectError(.forbidden) {
                            try await own.consume(
                                .init(
                                    queue: queue, kind: nil, channel: RabbitMQConnection.Channel.commands, deliver: { _, _ in }, end: {}))
                        }
                        await expectError(.forbidden) {
                            try await own.perform(RabbitMQConnection.refusal) { wire throws(WireFault) in
                                try wire.delete(queue, channel: RabbitMQConnection.Channel.control)
                            }
                        }
                    }
                    // With the peer its account goes.
                    try await broker.forget(peer: peer)
                    try await broker.forget(peer: peer)
                    try await broker.forget(peer: other)
                    try await broker.close(session)
                }
                try await group.next()
                group.cancelAll()
            }
            let gone = try RabbitMQConnection(
                RabbitMQAddress(try #require(address.url), setting: "X"), name: "too late", logger: logger)
            await expectError(.unauthenticated) { try await gone.run() }
        }
    }
}
