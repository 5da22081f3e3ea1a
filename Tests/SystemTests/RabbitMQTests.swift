import AsyncHTTPClient
import CohortClient
import CohortCore
import CohortPeer
import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1
import Subprocess
import Testing

/// Of `scripts/rabbitmq.sh`, which `make integration` runs.
private enum TestServer {
    private static let environment = ProcessInfo.processInfo.environment
    static let url = environment["COHORT_TEST_AMQP_URL"]
    static let tlsURL = environment["COHORT_TEST_AMQPS_URL"]
    static let folder = environment["COHORT_TEST_RABBITMQ_FOLDER"]
    static let script = environment["COHORT_TEST_RABBITMQ_SCRIPT"]
    static let isThere = url != nil && tlsURL != nil && folder != nil
}

extension SystemSuite {
    /// Whole sessions whose messages go through a real RabbitMQ.
    @Suite(.serialized, .enabled(if: TestServer.isThere, "no RabbitMQ: `make integration` starts one"))
    struct OverRabbitMQ {
        private static let settings = SessionSettings(peers: 2, rounds: 4, epochs: 2, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)

        @Test(arguments: ["fedavg", "independent"]) func `a session over TLS completes, every row trained on as often as it should be`(
            strategy: String
        ) async throws {
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_BROKER_URL": TestServer.tlsURL ?? ""])
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.strategy = strategy
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                // Four rounds of two epochs; two peers that train all rows for two epochs.
                let times = strategy == "fedavg" ? 8 : 4
                #expect(results.rows?.least == times && results.rows?.most == times, "\(String(describing: results.rows))")
                #expect(try #require(results.metrics.accuracy) > 0.9)
                try await eventually("nobody stays locked") { try await person.peers().allSatisfy { $0.status == .online } }
            }
        }

        @Test(arguments: ["restart", "kill"])
        func `RabbitMQ goes away in mid-session and comes back: the session completes, and nothing is lost`(
            how: String
        ) async throws {
            let script = try #require(TestServer.script)
            let folder = try #require(TestServer.folder)
            @Sendable func rabbit(_ arguments: String...) throws {
                let process = try Shell.run([script] + arguments)
                #expect(process == 0, "\(arguments)")
            }
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_BROKER_URL": TestServer.url ?? ""])
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try rabbit(how == "kill" ? "kill" : "stop", folder)
                try await eventually("the server says that it is not ready") { try await world.ready(server) == 503 }
                held.release()
                try rabbit("restart", folder)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
                #expect(try await world.ready(server) == 200)
            }
        }

        @Test func `a wrong password, a CA that does not know the server and a bad URL end the start, without the password`() async throws {
            let (url, tls, folder) = (TestServer.url ?? "", TestServer.tlsURL ?? "", TestServer.folder ?? "")
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
                        // Nobody listens there, or the certificate is another's: waited for, or refused, never taken.
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

extension World {
    fileprivate func ready(_ server: Server) async throws -> Int {
        let response = try await http.execute(HTTPClientRequest(url: "\(server.url)/health/ready"), timeout: .seconds(20))
        _ = try await response.body.collect(upTo: 1 << 20)
        return Int(response.status.code)
    }
}

private enum Shell {
    /// Waits for a command.
    static func run(_ arguments: [String]) throws -> Int32 {
        var pid = pid_t()
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // What it starts must not hold on to this process's output.
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        guard posix_spawn(&pid, arguments[0], &actions, nil, &pointers, environ) == 0 else { return -1 }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status
    }
}
