import CohortClient
import CohortCore
import CohortPeer
import Foundation
import Subprocess
import Testing

extension SystemSuite {
    /// Whole sessions over a RabbitMQ with TLS, an S3 and a MongoDB.
    @Suite(.serialized, .enabled(if: RealServers.isThere, "no real servers: `make integration` starts them"))
    struct OverRealServers {
        private static let settings = SessionSettings(
            peers: 2, rounds: 4, epochs: 2, batchSize: 8, lr: 0.01, hidden: [16], seed: 9_007_199_254_740_991)

        @Test(arguments: ["fedavg", "independent"], MongoServer.urls.map(\.url))
        func `a session completes over all three, and a restarted server knows it`(strategy: String, mongo: String) async throws {
            try await withWorld { world in
                let environment = RealServers.settings(mongo: mongo)
                let server = try await world.server(environment: environment)
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.strategy = strategy
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                let times = strategy == "fedavg" ? 8 : 4
                #expect(results.rows?.least == times && results.rows?.most == times, "\(String(describing: results.rows))")
                #expect(try #require(results.metrics.accuracy) > 0.9)
                try await eventually("nobody stays locked") { try await person.peers().allSatisfy { $0.status == .online } }
                let kept = try FileManager.default.subpathsOfDirectory(atPath: "\(world.folder)/server")
                #expect(!kept.contains { $0.hasSuffix(".sqlite") || $0.hasSuffix(".csv") || $0.hasPrefix("objects") }, "\(kept)")

                // Another server, with nothing but the settings and the secret of tokens.
                let other = try await world.server(
                    "other", data: "other",
                    environment: environment.merging(["COHORT_JWT_SECRET": String(repeating: "s", count: 32)]) { $1 })
                let again = CohortClient(server: try ServerURL(other.url), http: world.http)
                let token = try await again.signin(email: "ada@example.org", password: World.password)
                let there = again.authenticated(by: token.accessToken)
                #expect(try await there.results(id: started.sessionId).metrics == results.metrics)
                #expect(try await there.downloadModel(id: started.sessionId, to: "\(world.folder)/model.safetensors") > 1_000)
            }
        }

        @Test func `MongoDB goes away in mid-session and comes back: the session completes, and nothing is lost`() async throws {
            let mongo = try #require(MongoServer.server)
            let url = try #require(MongoServer.urls.first?.url)
            try await withWorld { world in
                let server = try await world.server(environment: MongoServer.settings(url))
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try mongo.act("kill")
                try await eventually("the server says that it is not ready") { try await world.ready(server) == 503 }
                held.release()
                try mongo.act("restart")
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
                #expect(try await world.ready(server) == 200)
            }
        }

        @Test func `a MongoDB that is not there and a bad URI end the start, without the password`() async throws {
            try await withWorld { world in
                for (name, uri, sentence) in [
                    (
                        "away", "mongodb://ada:topsecret@127.0.0.1:1/db?serverSelectionTimeoutMS=300",
                        "MongoDB at 127.0.0.1:1, database 'db' cannot be reached"
                    ),
                    ("bad", "mongodb://ada:topsecret@127.0.0.1:port/db", "COHORT_DATABASE_URL"),
                    ("coded", "mongodb://ada:top@secret@127.0.0.1/db", "percent-encoded"),
                ] {
                    let process = world.start(
                        name, ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", "\(world.folder)/\(name)"],
                        environment: ["COHORT_DATABASE_URL": uri])
                    let status = try await process.end()
                    #expect(status != .exited(0))
                    #expect(process.standardError.contains(sentence), "\(name): \(process.standardError)")
                    #expect(!process.standardError.contains("secret"), "\(process.standardError)")
                }
            }
        }
    }
}
