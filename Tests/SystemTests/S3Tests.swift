import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import FoundationEssentials
import Glibc
import Subprocess
import TestSupport
import Testing

extension SystemSuite {
    /// Whole sessions whose data, updates and models lie in a real S3.
    @Suite(.serialized, .enabled(if: S3Server.isThere, "no S3: `make integration` starts one"))
    struct OverS3 {
        private static let settings = SessionSettings(peers: 2, rounds: 4, epochs: 2, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)

        @Test(arguments: ["fedavg", "independent"]) func `a session completes, and everything of it lies in the bucket alone`(
            strategy: String
        ) async throws {
            try await withWorld { world in
                var environment = S3Server.settings(prefix: newIdentifier())
                if RabbitMQServer.isThere { environment["COHORT_BROKER_URL"] = RabbitMQServer.tlsURL }
                let server = try await world.server(environment: environment)
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.strategy = strategy
                // Weights that are too large for a message go by links.
                settings.hidden = [256, 64]
                let session = try await world.expectCompleted(settings, by: person, rows: 300, times: strategy == "fedavg" ? 8 : 4)
                let model = "\(world.folder)/model.safetensors"
                #expect(try await person.downloadModel(id: session.id, to: model) > 10_000)
                let kept = try FileManager.default.subpathsOfDirectory(atPath: "\(world.folder)/server")
                #expect(!kept.contains { $0.hasSuffix(".csv") || $0.hasSuffix(".safetensors") || $0.hasPrefix("objects") }, "\(kept)")
            }
        }

        /// Whole parts come by a redirect to the bucket, which must not see the peer's credential; pieces of parts come from the server.
        @Test(arguments: ["fedavg", "independent"]) func `rows of a table of several parts come from the bucket`(strategy: String)
            async throws
        {
            try await withWorld { world in
                let server = try await world.server(environment: S3Server.settings(prefix: newIdentifier()))
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                (settings.strategy, settings.rounds, settings.epochs, settings.batchSize) = (strategy, 2, 1, 512)
                let session = try await world.expectCompleted(
                    settings, by: person, rows: 100_000, times: 2)
                let received = session.results.peers.map { $0.receivedRows ?? 0 }
                #expect(strategy == "fedavg" ? received.reduce(0, +) <= 100_000 : received == [100_000, 100_000], "\(received)")
            }
        }

        @Test func `the store goes away in mid-session and comes back: the session completes, and nothing is lost`() async throws {
            let store = try #require(S3Server.server)
            try await withWorld { world in
                let server = try await world.server(environment: S3Server.settings(prefix: newIdentifier()))
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                // One that is free: else the pool is busy, which is reported first.
                _ = try await world.peers(1, of: server, for: person, prefix: "spare")
                let other = SessionSettings(peers: 1)
                try store.act("kill")
                try await eventually("the server says that it is not ready") { try await world.ready(server) == 503 }
                let refused = await #expect(throws: CohortError.self) {
                    _ = try await person.startSession(other, file: try world.blobs(rows: 40, name: "other.csv"))
                }
                #expect(
                    refused?.code == .unavailable && refused?.message.contains("cannot be reached") == true, "\(refused?.message ?? "")")
                held.release()
                try store.act("restart")
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
                #expect(try await world.ready(server) == 200)
            }
        }

        @Test func `wrong credentials, a missing bucket and a CA that does not know the store end the start, without the secret`()
            async throws
        {
            let good = S3Server.settings(prefix: "x")
            let tls = S3Server.tlsURL ?? ""
            try await withWorld { world in
                for (name, environment, sentence) in [
                    ("secret", S3Server.settings(prefix: "x", secret: "wrong-secret"), "does not accept the credentials"),
                    (
                        "bucket",
                        good.merging([
                            "COHORT_OBJECTS_URL": (S3Server.url ?? "").replacing("s3://cohort?create=yes&", with: "s3://nowhere?")
                        ]) { $1 }, "has no bucket 'nowhere'"
                    ),
                    ("ca", good.merging(["COHORT_OBJECTS_URL": tls.replacing("/ca.pem", with: "/other.pem")]) { $1 }, "look at cacertfile"),
                    ("url", good.merging(["COHORT_OBJECTS_URL": "s3://cohort?regoin=x"]) { $1 }, "unknown parameter 'regoin'"),
                ] {
                    let process = world.start(
                        name, ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", "\(world.folder)/\(name)"],
                        environment: environment)
                    let status = try await process.end()
                    #expect(status != .exited(0))
                    #expect(process.standardError.contains(sentence), "\(name): \(process.standardError)")
                    #expect(!process.standardError.contains("secret"), "\(process.standardError)")
                }
            }
        }
    }
}
