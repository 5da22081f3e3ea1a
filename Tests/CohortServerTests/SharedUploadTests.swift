import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import DirectoryObjects
import FoundationEssentials
import SQLiteDocuments
import Testing

@testable import CohortServer

/// Sessions of one account on the same file have one copy of it.
@Suite struct SharedUploadTests {
    private static let csv = "x,y\n1,a\n2,b\n"

    private func session(_ world: ServerWorld, _ answer: ServerWorld.Answer) async throws -> Session {
        #expect(answer.status == 201, "\(answer)")
        let id = try CohortJSON.decode(API.SessionStarted.self, from: answer.body.utf8).sessionId
        return try #require(try await world.documents.session(id: id))
    }

    /// As if it had trained on its file, or could not.
    private func end(_ world: ServerWorld, of session: Session, as status: SessionStatus) async throws {
        var session = try #require(try await world.documents.session(id: session.id))
        session.status = status
        if status == .completed {
            session.dataset = DatasetInfo(
                filename: "a.csv", csvLink: "s3://b/k", object: try #require(session.upload),
                schema: TableSchema(
                    hasHeader: true, delimiter: ",",
                    columns: [.init(name: "x", kind: .numeric, mean: 0, std: 1), .init(name: "y", kind: .target)],
                    target: "y", task: .classification, classes: ["a", "b"], validation: 0.2, splitSeed: 1, trainingRows: 1,
                    validationRows: 1, droppedRows: 0),
                schemaObject: ObjectReference(key: "schemas/\(session.id).json", sha256: "", bytes: 1), warnings: [])
        }
        _ = try await world.documents.update(session)
        try await world.documents.freePeers(ofSession: session.id)
    }

    private func uploads(_ world: ServerWorld) async throws -> [String] { try await world.stored.filter { Session.isUploadKey($0) } }

    @Test func `a file that is sent again, or named by its hash, is stored once, and goes with the last session`() async throws {
        try await withServer { world in
            let ada = try await world.signup()
            _ = try await world.register("one", try await world.joinToken(ada))
            let first = try await session(world, try await world.start([("peers", "1")], file: Self.csv, token: ada))
            try await end(world, of: first, as: .completed)
            let upload = try #require(first.upload)
            let second = try await session(
                world, try await world.start([("peers", "1"), ("sha256", upload.sha256)], file: nil, token: ada))
            try await end(world, of: second, as: .completed)
            let third = try await session(world, try await world.start([("peers", "1")], file: Self.csv, token: ada))
            try await end(world, of: third, as: .failed)
            #expect([second.upload, third.upload] == [upload, upload])
            #expect(try await uploads(world) == [upload.key])
            // No other user's.
            let bob = try await world.signup("bob@example.org")
            _ = try await world.register("two", try await world.joinToken(bob))
            #expect(try await world.start([("peers", "1"), ("sha256", upload.sha256)], file: nil, token: bob).status == 404)
            let theirs = try await session(world, try await world.start([("peers", "1")], file: Self.csv, token: bob))
            #expect(theirs.upload?.key != upload.key)
            #expect(Set(try await uploads(world)) == Set([upload.key, theirs.upload?.key ?? ""]))

            for gone in [first, third] {
                #expect(try await world.call("DELETE", "/sessions/\(gone.id)", token: ada).status == 204)
                #expect(try await world.objects.head(upload.key) != nil)
            }
            #expect(try await world.call("DELETE", "/sessions/\(second.id)", token: ada).status == 204)
            #expect(try await uploads(world) == [theirs.upload?.key ?? ""])
            #expect(try await world.start([("peers", "1"), ("sha256", upload.sha256)], file: nil, token: ada).status == 404)
        }
    }

    @Test func `a start that is refused leaves neither a second copy nor takes the first`() async throws {
        try await withServer { world in
            let ada = try await world.signup()
            _ = try await world.register("one", try await world.joinToken(ada))
            let first = try await session(world, try await world.start([("peers", "1")], file: Self.csv, token: ada))
            try await end(world, of: first, as: .completed)
            let upload = try #require(first.upload)
            for fields in [
                [("peers", "2")], [("peers", "1"), ("lr", "x")], [("peers", "1"), ("module", String(repeating: "0", count: 64))],
            ] {
                #expect(try await world.start(fields, file: Self.csv, token: ada).status >= 400)
                #expect(try await world.start(fields + [("sha256", upload.sha256)], file: nil, token: ada).status >= 400)
                #expect(try await uploads(world) == [upload.key], "\(fields)")
            }
        }
    }
}
