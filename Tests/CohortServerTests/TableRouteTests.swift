import CohortAPI
import CohortCore
import CohortTraining
import CohortWire
import DirectoryObjects
import FoundationEssentials
import SQLiteDocuments
import TestSupport
import Testing

@testable import CohortServer
@testable import CohortSession

/// Rows of a running session's table: only the peer that they were dealt to gets them.
@Suite struct TableRouteTests {
    /// Two peers of one session: `one` was dealt rows 0 to 60, `two` the others; the held-out rows are not dealt.
    private struct Table {
        let world: ServerWorld
        let user: String
        let session: String
        let one: API.Registered
        let two: API.Registered
        let manifest: TableManifest
        let records: [UInt8]

        func path(_ rest: String, of peer: API.Registered, session id: String? = nil) -> String {
            "/peers/\(peer.peerId)/sessions/\(id ?? session)/\(rest)"
        }

        func fetch(_ rest: String, by peer: API.Registered, session id: String? = nil) async throws -> ServerWorld.Answer {
            try await world.call("GET", path(rest, of: peer, session: id), token: peer.credential)
        }

        func change(_ change: (inout Session) throws -> Void) async throws {
            var stored = try #require(try await world.documents.session(id: session))
            try change(&stored)
            _ = try await world.documents.update(stored)
        }
    }

    private func withTable(_ body: @escaping @Sendable (Table) async throws -> Void) async throws {
        let text = "x,y\n" + (0..<100).map { "\($0 % 7),\($0 % 2 == 0 ? "a" : "b")\n" }.joined()
        try await withServer { world in
            let user = try await world.signup()
            let token = try await world.joinToken(user)
            let (one, two) = (try await world.register("one", token), try await world.register("two", token))
            let started = try await world.start([("peers", "2")], file: text, token: user)
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            let path = "\(world.folder)/data.csv"
            try Data(text.utf8).write(to: URL(filePath: path))
            let finding = try SchemaInference.infer(csvAt: path, target: nil, task: nil, validation: 0.2, seed: 1)
            let plan = RecordPlan(finding.schema, finding.values)
            let packer = try TablePacker(csvAt: path, schema: finding.schema, plan: plan, seed: 1, folder: world.folder)
            let stored = try await StoredTable.store(
                packer, plan: plan, schema: finding.schema, sessionId: id, in: world.objects)
            let table = Table(
                world: world, user: user, session: id, one: one, two: two, manifest: stored.manifest, records: try packer.part(0))
            try await table.change { session in
                session.status = .running
                for (name, range) in [("one", RowRange(start: 0, end: 60)), ("two", RowRange(start: 60, end: 80))] {
                    let index = try #require(session.peers.firstIndex { $0.name == name })
                    session.peers[index].deal([range])
                }
            }
            try await body(table)
        }
    }

    @Test func `a peer gets the manifest, and the rows that were dealt to it, with their hash`() async throws {
        try await withTable { table in
            let manifest = try await table.fetch("table", by: table.one)
            #expect(manifest.status == 200)
            #expect(try CohortJSON.decode(TableManifest.self, from: manifest.body.utf8) == table.manifest)
            // Bytes of codes and class numbers: ASCII, so that the answer is text as it is.
            let size = table.manifest.layout.recordBytes
            for (peer, range) in [(table.one, 0..<60), (table.one, 13..<14), (table.two, 60..<80)] {
                let rows = try await table.fetch("parts/0?start=\(range.lowerBound)&end=\(range.upperBound)", by: peer)
                let expected = Array(table.records[(range.lowerBound * size)..<(range.upperBound * size)])
                #expect(rows.status == 200 && Array(rows.body.utf8) == expected)
                #expect(rows.headers["repr-digest"]?.hasPrefix("sha-256=:") == true)
            }
        }
    }

    @Test(arguments: [
        ("parts/0?start=60&end=80", 403), ("parts/0?start=59&end=61", 403), ("parts/0?start=80&end=100", 403), ("parts/0", 403),
        ("parts/0?start=0&end=101", 400), ("parts/0?start=5&end=5", 400), ("parts/0?start=9&end=4", 400), ("parts/0?start=-1&end=4", 400),
        ("parts/1", 404), ("parts/-1", 404), ("parts/x", 404), ("parts/9999999999999999999", 404),
    ]) func `rows of others, and rows that are not there, are refused`(path: String, status: Int) async throws {
        try await withTable { table in
            let answer = try await table.fetch(path, by: table.one)
            #expect(answer.status == status, "\(answer)")
        }
    }

    @Test func `another session, another machine, a person and a join token get nothing`() async throws {
        try await withTable { table in
            let rows = "parts/0?start=0&end=60"
            for path in [rows, "table", "table/dictionary"] {
                #expect(try await table.fetch(path, by: table.one, session: newIdentifier()).status == 403)
                let other = try await table.world.call("GET", table.path(path, of: table.one), token: table.two.credential)
                #expect(other.status == 403, "\(other)")
                #expect(try await table.world.call("GET", table.path(path, of: table.one), token: table.user).status >= 401)
                #expect(try await table.world.call("GET", table.path(path, of: table.one)).status == 401)
                // A machine of the same person, which is in no session.
                let third = try await table.world.register("three", try await table.world.joinToken(table.user))
                #expect(try await table.fetch(path, by: third).status == 403)
            }
        }
    }

    @Test(arguments: ["lost", "failed", "revoked", "over"]) func `nothing comes after that`(event: String) async throws {
        try await withTable { table in
            let rows = "parts/0?start=0&end=60"
            #expect(try await table.fetch(rows, by: table.one).status == 200)
            switch event {
            case "revoked":
                let tokens = try await table.world.call("GET", "/auth/tokens", token: table.user)
                for token in try CohortJSON.decode([API.Token].self, from: tokens.body.utf8) {
                    #expect(try await table.world.call("DELETE", "/auth/tokens/\(token.id)", token: table.user).status == 204)
                }
                #expect(try await table.fetch(rows, by: table.one).status == 401)
            case "over":
                try await table.change { $0.status = .completed }
                #expect(try await table.fetch(rows, by: table.one).status == 409)
            default:
                try await table.change { session in
                    let index = try #require(session.peers.firstIndex { $0.name == "one" })
                    if event == "lost" { session.peers[index].lose(reason: "gone") } else { session.peers[index].exclude(reason: "no") }
                }
                #expect(try await table.fetch(rows, by: table.one).status == 403)
            }
        }
    }

    /// The older machine shows this sentence.
    @Test func `a peer of the version before is refused, with both versions`() async throws {
        try await withServer { world in
            let token = try await world.joinToken(try await world.signup())
            let old = ServerWorld.registration("old").replacing(#","encodings":["constant","f32","u8","u16"]"#, with: "")
            let answer = try await world.call("POST", "/peers", old, token: token)
            #expect(answer.status == 400)
            #expect(answer.detail.contains("of version 1, which reads CSVs") && answer.detail.contains(CohortVersion.current))
            let part = ServerWorld.registration("part").replacing(#""u8","#, with: "")
            #expect(try await world.call("POST", "/peers", part, token: token).detail.contains("lacks u8"))
        }
    }
}
