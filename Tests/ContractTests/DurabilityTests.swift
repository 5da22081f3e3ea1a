import CohortCore
import CohortSession
import Foundation
import GRDB
import SQLiteDocuments
import TestSupport
import Testing

@Suite
struct DurabilityTests {
    @Test(arguments: DocumentStore.durable)
    func `Everything is there after closing and opening again`(_ store: DocumentStore) async throws {
        try await TemporaryFolder.with { place in
            let first = try await store.open(place)
            let user = User.sample()
            let token = JoinToken.sample()
            try await first.part.insert(user)
            try await first.part.insert(token)
            let peer = try await first.part.register(.sample(id: "p"))
            try await first.part.insert(Session.sample(id: "s"))
            let session = try await first.part.takeLease(sessionId: "s", owner: "a", now: moment(), expiresAt: moment(30))
            try await first.part.add([.sample()])
            try await first.close()
            try await first.close()
            await expectError(.unavailable) { try await first.part.peers() }
            await expectError(.unavailable) { try await first.part.claim(peerId: "p", sessionId: "s") }

            let second = try await store.open(place)
            #expect(try await second.part.user(id: user.id) == user)
            #expect(try await second.part.joinToken(id: token.id) == token)
            #expect(try await second.part.peers() == [peer])
            #expect(try await second.part.session(id: "s") == session)
            #expect(try await second.part.metrics(sessionId: "s") == [.sample()])
            try await second.close()
        }
    }

    @Test
    func `What a killed process had stored is there: its files are read as they lie, never closed`() async throws {
        try await TemporaryFolder.with { place in
            let killed = try SQLiteDocuments(path: place.path("a.sqlite"))
            for index in 0..<20 { _ = try await killed.register(.sample(id: "p\(index)")) }
            // The shared-memory file is rebuilt from the log, as after a restart of the machine.
            for suffix in ["", "-wal"] {
                try FileManager.default.copyItem(atPath: place.path("a.sqlite\(suffix)"), toPath: place.path("b.sqlite\(suffix)"))
            }
            let found = try SQLiteDocuments(path: place.path("b.sqlite"))
            #expect(try await found.peers().count == 20)
            try await found.close()
            try await killed.close()
        }
    }

    @Test
    func `The file is its owner's alone, in a folder that is made`() async throws {
        try await TemporaryFolder.with { place in
            let documents = try SQLiteDocuments(path: place.path("new/folders/cohort.sqlite"))
            _ = try await documents.register(.sample())
            for suffix in ["", "-wal", "-shm"] {
                let attributes = try FileManager.default.attributesOfItem(atPath: documents.path + suffix)
                #expect(attributes[.posixPermissions] as? Int == 0o600, "\(suffix)")
            }
            try await documents.close()
        }
    }

    @Test
    func `A file that is no database is named, and left as it is`() async throws {
        try await TemporaryFolder.with { place in
            let text = [UInt8](String(repeating: "species,island\nAdelie,Torgersen\n", count: 100).utf8)
            let path = try place.write(text, to: "penguins.csv")
            let said = await expectError(.invalid) { try SQLiteDocuments(path: path) }
            #expect(said.contains(path) && said.contains("not a database"))
            #expect(FileManager.default.contents(atPath: path).map { [UInt8]($0) } == text)
        }
    }

    @Test
    func `A database of a newer Cohort is refused`() async throws {
        try await TemporaryFolder.with { place in
            let path = place.path("cohort.sqlite")
            try await SQLiteDocuments(path: path).close()
            let future = try DatabaseQueue(path: path)
            try await future.write { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('a migration to come')") }
            try future.close()
            let said = await expectError(.conflict) { try SQLiteDocuments(path: path) }
            #expect(said.contains("made by a newer Cohort"))
        }
    }

    @Test
    func `A folder where a file should be, and a file where a folder should be, are reported`() async throws {
        try await TemporaryFolder.with { place in
            await expectError(.storageFull) { try SQLiteDocuments(path: place.path) }
            let file = try place.write([1], to: "file")
            let said = await expectError(.storageFull) { try SQLiteDocuments(path: "\(file)/cohort.sqlite") }
            #expect(said.contains(file))
        }
    }

    @Test(.enabled(if: SmallDisk.isPossible, SmallDisk.reason))
    func `A read-only place is reported`() async throws {
        try await SmallDisk.with(kilobytes: 64, readOnly: true) { disk in
            let said = await expectError(.storageFull) { try SQLiteDocuments(path: disk.path("cohort.sqlite")) }
            #expect(said.contains(disk.path) && said.contains("Read-only"))
        }
    }

    @Test(.enabled(if: SmallDisk.isPossible, SmallDisk.reason))
    func `A full disk is reported, what was stored before stays, and storing goes on once there is space`() async throws {
        try await SmallDisk.with(kilobytes: 1024) { disk in
            let documents = try SQLiteDocuments(path: disk.path("cohort.sqlite"))
            var session = Session.sample(id: "s")
            try await documents.insert(session)
            let ballast = disk.path("ballast")
            #expect(FileManager.default.createFile(atPath: ballast, contents: Data(count: 300_000)))
            var said = ""
            for _ in 0..<1000 where said.isEmpty {
                var larger = session
                larger.updateNorms += (0..<200).map(Double.init)
                do {
                    session = try await documents.update(larger)
                } catch let error as CohortError {
                    #expect(error.code == .storageFull)
                    said = error.message
                }
            }
            #expect(said.contains("the disk of \(disk.path)") && said.contains("full"))
            #expect(try await documents.session(id: "s") == session)
            try FileManager.default.removeItem(atPath: ballast)
            session = try await documents.update(session)
            #expect(try await documents.session(id: "s") == session)
            try await documents.close()
        }
    }
}
