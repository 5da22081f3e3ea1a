import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import Foundation
import Glibc
import Subprocess
import Synchronization
import TestSupport
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
                let session = try await world.expectCompleted(settings, by: person, rows: 300, times: strategy == "fedavg" ? 8 : 4)
                try await eventually("no peer stays locked") { try await person.peers().allSatisfy { $0.status == .online } }
                let kept = try FileManager.default.subpathsOfDirectory(atPath: "\(world.folder)/server")
                #expect(!kept.contains { $0.hasSuffix(".sqlite") || $0.hasSuffix(".csv") || $0.hasPrefix("objects") }, "\(kept)")

                // Another server, with nothing but the settings and the secret of tokens.
                let other = try await world.server(
                    "other", data: "other",
                    environment: environment.merging(["COHORT_JWT_SECRET": String(repeating: "s", count: 32)]) { $1 })
                let again = CohortClient(server: try ServerURL(other.url), http: world.http)
                let token = try await again.signin(email: "ada@example.org", password: World.password)
                let there = again.authenticated(by: token.accessToken)
                #expect(try await there.results(id: session.id).metrics == session.results.metrics)
                #expect(try await there.downloadModel(id: session.id, to: "\(world.folder)/model.safetensors") > 1_000)
            }
        }

        @Test func `all three far away, behind a slow network: a session completes`() async throws {
            let url = try #require(MongoServer.urls.last { $0.name != "MongoDB" }?.url)
            try await withWorld { world in
                let relays = Mutex<[HoldingRelay]>([])
                defer { for relay in relays.withLock({ $0 }) { relay.close() } }
                /// A URL with a relay's port instead of the original.
                func slow(_ text: String) throws -> String {
                    let port = try #require(text.matches(of: #/:(\d{4,5})\b/#).last.flatMap { Int($0.1) })
                    let relay = try HoldingRelay(to: port, latency: 0.02)
                    relays.withLock { $0.append(relay) }
                    return text.replacing(":\(port)", with: ":\(relay.port)")
                }
                var environment = RealServers.settings(mongo: url)
                for name in ["COHORT_DATABASE_URL", "COHORT_BROKER_URL", "COHORT_OBJECTS_URL"] {
                    environment[name] = try slow(environment[name] ?? "")
                }
                let server = try await world.server(environment: environment)
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                // Weights that are too large for a message go by links, in many pieces.
                var settings = Self.settings
                settings.hidden = [256, 64]
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 8 && rows.most == 8, "\(rows)")
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

        /// Two servers that only serve, two coordinators, and four peers, two at each server.
        private struct Deployment {
            var servers: [World.Server] = []
            var coordinators: [TestProcess] = []
            var persons: [CohortClient] = []
            var peers: [TestProcess] = []
        }

        private func deploy(_ world: World) async throws -> Deployment {
            let environment = RealServers.settings(mongo: try #require(MongoServer.urls.first?.url)).merging(
                ["COHORT_JWT_SECRET": String(repeating: "s", count: 32), "COHORT_COORDINATE": "no"]
            ) { $1 }
            var all = Deployment()
            for name in ["x", "y"] {
                let coordinator = world.start(
                    "coordinator-\(name)", ["coordinate", "--data-dir", "\(world.folder)/coordinator-\(name)"],
                    environment: World.fast.merging(environment) { _, given in given })
                _ = try await coordinator.firstLine(startingWith: "coordinating")
                all.coordinators.append(coordinator)
            }
            for name in ["a", "b"] {
                all.servers.append(try await world.server("server-\(name)", data: "server-\(name)", environment: environment))
            }
            let first = try await world.person(all.servers[0])
            // What one server has signed the other believes.
            let token = try await CohortClient(server: try ServerURL(all.servers[1].url), http: world.http)
                .signin(email: "ada@example.org", password: World.password)
            let second = CohortClient(server: try ServerURL(all.servers[1].url), token: token.accessToken, http: world.http)
            all.persons = [first, second]
            all.peers = try await world.peers(2, of: all.servers[0], for: first, prefix: "at-a")
            all.peers += try await world.peers(2, of: all.servers[1], for: second, prefix: "at-b")
            try await eventually("both servers know all four") { [persons = all.persons] in
                for person in persons where try await person.peers().count(where: { $0.status == .online }) != 4 { return false }
                return true
            }
            return all
        }

        @Test func `a server, a coordinator and a peer are killed in mid-session: what is left completes it`() async throws {
            try await withWorld { world in
                let all = try await deploy(world)
                var settings = Self.settings
                settings.peers = 4
                settings.rounds = 6
                let point = try await world.points.hold(.firstBatch, of: all.peers[0], round: 1)
                let started = try await all.persons[0].startSession(settings, file: try world.blobs(rows: 600))
                let seen = Seen()
                let watching = Task { [person = all.persons[1]] in
                    for try await notice in try await person.events(id: started.sessionId) { seen.add(notice) }
                }
                let held = try await world.points.reached(point)
                // Of the other peers' epochs in round 1, at the server that the session was not started at.
                try await eventually("the watcher at the other server is notified") { seen.kinds.contains(.epoch) }
                let runs = all.coordinators.filter { $0.standardError.contains("Training starts") }
                #expect(runs.count == 1, "one coordinator runs a session")
                let run = try #require(runs.first)
                try await run.send(SIGKILL)
                try await all.servers[1].process.send(SIGKILL)
                try await all.peers[1].send(SIGKILL)
                held.release()
                let status = try await all.persons[0].final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await all.persons[0].results(id: started.sessionId)
                let rows = try #require(results.rows)
                // Six rounds of two epochs; in round 1 shares may be missing.
                #expect(rows.least >= 10 && rows.most <= 12, "\(rows)")
                #expect(try #require(results.metrics.accuracy) > 0.9)
                #expect(results.peers.first { $0.name == "at-a-1" }?.state != .lost)
                try await eventually("those that are gone are marked OFFLINE, and no peer stays locked") {
                    try await all.persons[0].peers().allSatisfy { $0.status == ($0.name == "at-a-1" ? .online : .offline) }
                }
                watching.cancel()
            }
        }

        @Test func `a session is cancelled at the other server, and its peers are free for the next, whichever coordinator runs it`()
            async throws
        {
            try await withWorld { world in
                let all = try await deploy(world)
                var settings = Self.settings
                settings.peers = 4
                let point = try await world.points.hold(.firstBatch, of: all.peers[3], round: 1)
                let started = try await all.persons[0].startSession(settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try await all.persons[1].cancel(id: started.sessionId)
                #expect(try await all.persons[1].final(started.sessionId).status == .cancelled)
                held.release()
                try await eventually("all are free") { try await all.persons[1].peers().allSatisfy { $0.status == .online } }
                settings.rounds = 2
                let next = try await all.persons[1].startSession(settings, file: try world.blobs(rows: 300))
                #expect(try await all.persons[0].final(next.sessionId).status == .completed)
                let rows = try #require(try await all.persons[0].results(id: next.sessionId).rows)
                #expect(rows.least == 4 && rows.most == 4, "\(rows)")
            }
        }

        @Test func `a coordinator apart needs shared stores and the secret`() async throws {
            try await withWorld { world in
                let shared = RealServers.settings(mongo: try #require(MongoServer.urls.first?.url))
                for (name, command, environment, sentence) in [
                    ("no-stores", ["coordinate"], [:], "need a shared COHORT_DATABASE_URL"),
                    ("no-secret", ["coordinate"], shared, "COHORT_JWT_SECRET is missing"),
                    ("alone", ["serve", "--port", "0"], ["COHORT_COORDINATE": "no"], "need a shared COHORT_DATABASE_URL"),
                    (
                        "maybe", ["serve", "--port", "0"], ["COHORT_COORDINATE": "maybe"],
                        "COHORT_COORDINATE is 'maybe'; it must be yes or no"
                    ),
                ] as [(String, [String], [String: String], String)] {
                    let process = world.start(name, command + ["--data-dir", "\(world.folder)/\(name)"], environment: environment)
                    let status = try await process.end()
                    #expect(status != .exited(0))
                    #expect(process.standardError.contains(sentence), "\(name): \(process.standardError)")
                }
            }
        }

        private final class Seen: Sendable {
            private let all = Mutex<[SessionNotice]>([])
            func add(_ notice: SessionNotice) { all.withLock { $0.append(notice) } }
            var kinds: Set<SessionNotice.Kind> { all.withLock { Set($0.map(\.kind)) } }
        }
    }
}
