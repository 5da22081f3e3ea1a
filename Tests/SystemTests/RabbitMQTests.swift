import AsyncHTTPClient
import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1
import Subprocess
import TestSupport
import Testing

extension SystemSuite {
    /// Whole sessions whose messages go through a real RabbitMQ.
    @Suite(.serialized, .enabled(if: RabbitMQServer.isThere, "no RabbitMQ: `make integration` starts one"))
    struct OverRabbitMQ {
        private static let settings = SessionSettings(peers: 2, rounds: 4, epochs: 2, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)

        @Test(arguments: ["fedavg", "independent"]) func `a session over TLS completes, every row trained on as often as it should be`(
            strategy: String
        ) async throws {
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_BROKER_URL": RabbitMQServer.tlsURL ?? ""])
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.strategy = strategy
                try await world.expectCompleted(settings, by: person, rows: 300, times: strategy == "fedavg" ? 8 : 4)
                try await eventually("no peer stays locked") { try await person.peers().allSatisfy { $0.status == .online } }
            }
        }

        @Test(arguments: ["restart", "kill"])
        func `RabbitMQ goes away in mid-session and comes back: the session completes, and nothing is lost`(
            how: String
        ) async throws {
            let rabbit = try #require(RabbitMQServer.server)
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_BROKER_URL": RabbitMQServer.url ?? ""])
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try rabbit.act(how == "kill" ? "kill" : "stop")
                try await eventually("the server says that it is not ready") { try await world.ready(server) == 503 }
                held.release()
                try rabbit.act("restart")
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
                #expect(try await world.ready(server) == 200)
            }
        }

        private static let amqp = ["COHORT_TRANSPORT": "amqp", "COHORT_BROKER_CA_FILE": RabbitMQServer.caFile ?? ""]
        private static let server = [
            "COHORT_BROKER_URL": RabbitMQServer.tlsURL ?? "", "COHORT_BROKER_ADMIN_URL": RabbitMQServer.adminURL ?? "",
        ]

        @Test(arguments: ["fedavg", "independent"]) func `peers that speak AMQP, with separate accounts, and one that speaks HTTP`(
            strategy: String
        ) async throws {
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person, prefix: "amqp", environment: Self.amqp)
                _ = try await world.peers(1, of: server, for: person, prefix: "http")
                var settings = Self.settings
                settings.strategy = strategy
                settings.peers = 3
                let session = try await world.expectCompleted(settings, by: person, rows: 300, times: strategy == "fedavg" ? 8 : 6)
                #expect(session.results.peers.allSatisfy { $0.trainedSamples > 0 })
                try await eventually("no peer stays locked") { try await person.peers().allSatisfy { $0.status == .online } }
                #expect(peers.allSatisfy { $0.standardError.contains("connected to RabbitMQ") })
                #expect(!peers.contains { $0.standardError.contains("amqps://cohort.peer") }, "no password in a log")
            }
        }

        @Test(.enabled(if: PythonPeer.isThere, "no Python with pika and jsonschema: `make integration` makes one"))
        func `every message that is sent fits the schema of the protocol`() async throws {
            let rabbit = try #require(RabbitMQServer.server)
            try await withWorld { world in
                try rabbit.act("trace_on")
                let tap = world.start(
                    "tap", executable: PythonPeer.interpreter,
                    [
                        PythonPeer.file("scripts/message-tap.py"), RabbitMQServer.url ?? "",
                        PythonPeer.file("docs/messages/messages.schema.json"),
                    ])
                _ = try await tap.firstLine(startingWith: "listening")
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person, prefix: "amqp", environment: Self.amqp)
                _ = try await world.peers(1, of: server, for: person, prefix: "http")
                for strategy in ["fedavg", "independent"] {
                    var settings = Self.settings
                    settings.strategy = strategy
                    settings.earlyStopping = 3
                    settings.classWeight = strategy == "fedavg" ? .balanced : nil
                    settings.target = "species"
                    let started = try await person.startSession(settings, file: PythonPeer.file("Examples/penguins.csv"))
                    let status = try await person.final(started.sessionId)
                    #expect(status.status == .completed, "\(status.error ?? "")")
                }
                try await tap.send(SIGTERM)
                #expect(try await tap.end() == .exited(0), "\(tap.lines)\n\(tap.standardError)")
                let seen = tap.lines.first { $0.hasPrefix("{") } ?? ""
                for type in ["ENABLE", "ENABLED", "TRAIN", "HEARTBEAT", "DONE", "STOP"] {
                    #expect(seen.contains("\"\(type)\""), "\(type) in \(seen)")
                }
                try rabbit.act("trace_off")
            }
        }

        @Test func `a RabbitMQ that is short of memory is reported, and when it has room again the session goes on`() async throws {
            let rabbit = try #require(RabbitMQServer.server)
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person, environment: Self.amqp)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try rabbit.act("alarm_on")
                held.release()
                try await eventually("a peer has to wait") {
                    ([server.process] + peers).contains { $0.standardError.contains("takes nothing just now (low on memory)") }
                }
                try rabbit.act("alarm_off")
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
                #expect(([server.process] + peers).contains { $0.standardError.contains("takes messages again") })
                #expect(try await world.ready(server) == 200)
            }
        }

        @Test func `RabbitMQ is killed under peers that speak AMQP: the session completes, and nothing is lost`() async throws {
            let rabbit = try #require(RabbitMQServer.server)
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person, environment: Self.amqp)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try rabbit.act("kill")
                try await eventually("the server says that it is not ready") { try await world.ready(server) == 503 }
                held.release()
                try rabbit.act("restart")
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
            }
        }

        @Test func `work that takes longer than RabbitMQ lets a delivery be held loses nothing`() async throws {
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person, environment: Self.amqp)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                // The script's consumer_timeout is 10 s, looked at every second.
                try await Task.sleep(for: .seconds(13))
                held.release()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
                for log in [server.process.standardError] + peers.map(\.standardError) {
                    #expect(!log.contains("is away"), "no channel was closed: \(log)")
                }
            }
        }

        @Test func `a server whose peers speak HTTP says so to one that wants AMQP`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let token = try #require(try await person.createToken(API.NewToken(name: "test")).token)
                let peer = world.peer("amqp", of: server, token: token, environment: Self.amqp)
                let status = try await peer.end()
                #expect(status != .exited(0))
                #expect(peer.standardError.contains("this server's peers speak http"), "\(peer.standardError)")
            }
        }

        @Test func `a wrong password, a CA that does not know the server and a bad URL end the start, without the password`() async throws {
            let (url, tls, folder) = (RabbitMQServer.url ?? "", RabbitMQServer.tlsURL ?? "", RabbitMQServer.server?.folder ?? "")
            try await withWorld { world in
                for (name, broker, sentence) in [
                    ("password", url.replacing("test-secret", with: "wrong-secret"), "refuses user 'cohort'"),
                    ("vhost", url + "/nowhere", "virtual host 'nowhere'"),
                    ("ca", tls.replacing("/ca.pem", with: "/other.pem"), "not trusted by \(folder)/tls/other.pem"),
                    ("host", tls.replacing("localhost", with: "127.0.0.2"), "RabbitMQ at amqps://127.0.0.2"),
                    ("file", tls.replacing("/ca.pem", with: "/none.pem"), "none.pem cannot be read"),
                    ("port", "amqp://cohort:test-secret@localhost:99999", "the port is not a number"),
                    ("parameter", url + "?speed=1", "unknown parameter 'speed'"),
                ] {
                    let process = world.start(
                        name, ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", "\(world.folder)/\(name)"],
                        environment: ["COHORT_BROKER_URL": broker])
                    if name == "host" {
                        // There is no server, or the certificate is another's: waited for, or refused, never taken.
                        try await eventually("it says why") { process.standardError.contains(sentence) }
                        try await process.send(SIGTERM)
                        _ = try await process.end()
                    } else {
                        #expect(try await process.end() != .exited(0))
                    }
                    #expect(process.standardError.contains(sentence), "\(name): \(process.standardError)")
                    #expect(!process.standardError.contains("secret"), "\(process.standardError)")
                }
            }
        }
    }
}
