import CohortCore
import Foundation
import Logging
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
    ]) func `what is wrong is said, with the setting and without the password`(url: String, sentence: String) {
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
    func `what is signed by nobody, or for another, never reaches the coordinator`() async throws {
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
}
