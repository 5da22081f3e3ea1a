import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import FoundationEssentials
import Glibc
import Subprocess
import Testing

extension SystemSuite {
    /// `cohort export` and `cohort import`.
    @Suite(.serialized) struct Archives {
        private static let settings = SessionSettings(peers: 2, rounds: 4, epochs: 2, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)

        @Test func `a server is moved in mid-session, and the session goes on at the new place`() async throws {
            try await withWorld { world in
                // No peer is marked OFFLINE because this machine is slow.
                let patience = ["COHORT_DEAD_AFTER": "600"]
                let server = try await world.server(environment: patience)
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 300)
                let done = try await person.startSession(Self.settings, file: csv)
                #expect(try await person.final(done.sessionId).status == .completed)
                let (before, model) = (try await person.results(id: done.sessionId), "\(world.folder)/before.safetensors")
                _ = try await person.downloadModel(id: done.sessionId, to: model)
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 2)
                let started = try await person.startSession(Self.settings, file: csv)
                let held = try await world.points.reached(point)

                let (from, to, folder) = ("\(world.folder)/server", "\(world.folder)/moved", "\(world.folder)/archive")
                let early = world.start("early", ["export", folder, "--data-dir", from])
                #expect(try await early.end() == .exited(1))
                #expect(early.standardError.contains("another server is running"), "\(early.standardError)")
                try await server.process.send(SIGKILL)
                _ = try await server.process.end()

                let export = world.start("export", ["export", folder, "--data-dir", from])
                #expect(try await export.end() == .exited(0), "\(export.standardError)")
                #expect(export.lines.contains { $0.contains("1 user, 1 join token, 2 peers, 2 sessions with 6 rounds") }, "\(export.lines)")
                var status = stat()
                #expect(stat(folder, &status) == 0 && status.st_mode & 0o077 == 0, "it holds password hashes")
                let again = world.start("again", ["export", folder, "--data-dir", from])
                #expect(try await again.end() == .exited(1))
                #expect(again.standardError.contains("is not empty"), "\(again.standardError)")

                // The second time finds all of it there.
                for turn in 1...2 {
                    let process = world.start("import-\(turn)", ["import", folder, "--data-dir", to])
                    #expect(try await process.end() == .exited(0), "\(process.standardError)")
                    #expect(process.lines.contains { $0.contains("all of it read back") }, "\(process.lines)")
                }
                // Sign-ins and peers' credentials are good where the key is the same.
                try FileManager.default.copyItem(atPath: "\(from)/jwt.key", toPath: "\(to)/jwt.key")
                let moved = try await world.server("moved", data: "moved", port: server.port, environment: patience)
                held.release()
                let end = try await person.final(started.sessionId)
                #expect(end.status == .completed, "\(end.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                try #require(rows.least == 8 && rows.most == 8, "\(rows)")
                #expect(try CohortJSON.encode(try await person.results(id: done.sessionId)) == CohortJSON.encode(before))
                _ = try await person.downloadModel(id: done.sessionId, to: "\(model).after")
                #expect(try Data(contentsOf: URL(filePath: model)) == Data(contentsOf: URL(filePath: "\(model).after")))
                _ = moved
            }
        }

        @Test func `an archive that is damaged, unfinished or another's is refused, and nothing is written over`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 60))
                #expect(try await person.final(started.sessionId).status == .completed)
                try await server.process.send(SIGTERM)
                _ = try await server.process.end()
                let folder = "\(world.folder)/archive"
                let export = world.start("export", ["export", folder, "--data-dir", "\(world.folder)/server"])
                #expect(try await export.end() == .exited(0), "\(export.standardError)")

                func refused(_ name: String, into target: String, _ sentence: String) async throws {
                    let process = world.start(name, ["import", folder, "--data-dir", "\(world.folder)/\(target)"])
                    let status = try await process.end()
                    #expect(status == .exited(1) || status == .exited(2))
                    #expect(process.standardError.contains(sentence), "\(process.standardError)")
                }
                func change(_ file: String, _ body: (inout [UInt8]) -> Void) throws -> Data {
                    let url = URL(filePath: "\(folder)/\(file)")
                    let before = try Data(contentsOf: url)
                    var bytes = [UInt8](before)
                    body(&bytes)
                    try Data(bytes).write(to: url)
                    return before
                }
                func restore(_ file: String, _ bytes: Data) throws { try bytes.write(to: URL(filePath: "\(folder)/\(file)")) }

                let model = try #require(
                    try FileManager.default.subpathsOfDirectory(atPath: folder).first {
                        $0.hasPrefix("objects/models/") && $0.hasSuffix(".safetensors")
                    })
                var kept = try change(model) { $0[$0.count - 1] ^= 1 }
                try await refused("object", into: "a", "is damaged")
                try restore(model, kept)
                kept = try change("documents.ndjson") { $0[$0.count / 2] ^= 1 }
                try await refused("documents", into: "b", "another SHA-256 than manifest.json says")
                try restore("documents.ndjson", kept)
                kept = try change("objects.ndjson") { $0 = Array("{\"key\":\"../../evil\",\"sha256\":\"00\",\"bytes\":1}\n".utf8) }
                try await refused("keys", into: "c", "another SHA-256 than manifest.json says")
                try restore("objects.ndjson", kept)
                kept = try change("manifest.json") { $0 = Array($0.prefix($0.count / 2)) }
                try await refused("half", into: "d", "manifest.json cannot be read")
                try FileManager.default.removeItem(atPath: "\(folder)/manifest.json")
                try await refused("unfinished", into: "e", "is no archive that `cohort export` has finished")
                try restore("manifest.json", kept)

                // One that was cut short after the objects goes on, and one into a server that has gone on is refused.
                let first = world.start("first", ["import", folder, "--data-dir", "\(world.folder)/a"])
                #expect(try await first.end() == .exited(0), "\(first.standardError)")
                let other = try await world.server("other", data: "f")
                _ = try await world.person(other)  // The same e-mail, another account.
                try await other.process.send(SIGTERM)
                _ = try await other.process.end()
                try await refused("taken", into: "f", "ada@example.org is already registered")
            }
        }
    }
}

extension SystemSuite.OverRealServers {
    @Test(arguments: MongoServer.urls.map { $0.name })
    func `everything goes from files to MongoDB and S3, and back`(name: String) async throws {
        let url = try #require(MongoServer.urls.first { $0.name == name }?.url)
        try await withWorld { world in
            let server = try await world.server()
            let person = try await world.person(server)
            // A peer's name is a key of the settings.
            _ = try await world.peers(2, of: server, for: person, prefix: "$lab.machine 50%")
            let settings = SessionSettings(
                peers: 2, rounds: 4, epochs: 2, batchSize: 8, lr: 0.01, hidden: [16], seed: 5,
                perPeer: ["$lab.machine 50%-1": .init(batchSize: 4)])
            for strategy in ["fedavg", "independent"] {
                var settings = settings
                settings.strategy = strategy
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
            }
            try await server.process.send(SIGTERM)
            _ = try await server.process.end()

            func run(_ command: String, _ folder: String, environment: [String: String], data: String) async throws {
                let process = world.start(
                    "\(command)-\(data)", [command, "\(world.folder)/\(folder)", "--data-dir", "\(world.folder)/\(data)"],
                    environment: environment)
                #expect(try await process.end(within: .seconds(120)) == .exited(0), "\(process.standardError)")
            }
            let shared = RealServers.settings(mongo: url)
            try await run("export", "one", environment: [:], data: "server")
            try await run("import", "one", environment: shared, data: "shared")
            try await run("export", "two", environment: shared, data: "shared")
            try await run("import", "two", environment: [:], data: "back")
            try await run("export", "three", environment: [:], data: "back")
            func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(filePath: "\(world.folder)/\(path)")) }
            #expect(try bytes("one/objects.ndjson") == bytes("two/objects.ndjson"))
            #expect(try bytes("one/objects.ndjson") == bytes("three/objects.ndjson"))
            #expect(try bytes("one/documents.ndjson") == bytes("three/documents.ndjson"))
        }
    }
}
