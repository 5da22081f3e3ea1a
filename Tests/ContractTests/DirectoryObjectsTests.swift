import CohortCore
import DirectoryObjects
import Foundation
import TestSupport
import Testing

@Suite
struct DirectoryObjectsTests {
    func open(_ place: TemporaryFolder) throws -> DirectoryObjects {
        try DirectoryObjects(path: place.path("objects"), secret: testSecret)
    }

    @Test
    func `An object is a plain file at its key, for its owner alone`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            _ = try await store.put([UInt8]("a,b\n1,2\n".utf8), key: "sets/x.csv")
            #expect(FileManager.default.contents(atPath: place.path("objects/sets/x.csv")) == Data("a,b\n1,2\n".utf8))
            let path = try #require(await store.localFile(of: "sets/x.csv"))
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        }
    }

    @Test
    func `Objects and links outlive the process`() async throws {
        try await TemporaryFolder.with { place in
            let reference = try await open(place).put([1, 2, 3], key: "a/b")
            let text = try await open(place).presignedGet("a/b", expiry: moment(60))
            let link = try ServedObjectStoreTests.Link(text)
            let store = try open(place)
            #expect(try await store.head("a/b") == reference)
            #expect(try await store.get("a/b") == [1, 2, 3])
            try store.verify(method: "GET", key: "a/b", expires: link.expires, maxBytes: nil, signature: link.signature, now: moment())
            let stranger = try DirectoryObjects(path: place.path("objects"), secret: [UInt8](repeating: 8, count: 32))
            await expectError(.forbidden) {
                try stranger.verify(
                    method: "GET", key: "a/b", expires: link.expires, maxBytes: nil, signature: link.signature, now: moment())
            }
            await expectError(.invalid) { try DirectoryObjects(path: place.path("objects"), secret: [1, 2, 3]) }
        }
    }

    @Test(arguments: ["flipped", "shorter", "longer"])
    func `Damaged bytes are found when read whole, named, and kept`(_ how: String) async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            let good = [UInt8](repeating: 5, count: 2_000_000)
            _ = try await store.put(good, key: "weights")
            let path = try #require(await store.localFile(of: "weights"))
            var bad = good
            switch how {
            case "flipped": bad[1_999_999] ^= 1
            case "shorter": bad.removeLast()
            default: bad.append(0)
            }
            try Data(bad).write(to: URL(fileURLWithPath: path))
            let said = await expectError(.internal) { try await store.get("weights") }
            #expect(said.contains("object weights is damaged") && said.contains(path))
            #expect(FileManager.default.contents(atPath: path) == Data(bad))
            _ = try await store.put(good, key: "weights")
            #expect(try await store.get("weights") == good, "storing it again heals it")
        }
    }

    @Test
    func `Missing bytes are an error that names the object`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            _ = try await store.put([1], key: "a")
            try FileManager.default.removeItem(atPath: try #require(await store.localFile(of: "a")))
            #expect(await expectError(.internal) { try await store.get("a") }.contains("a"))
            _ = try await store.put([1], key: "a")
            #expect(try await store.get("a") == [1])
        }
    }

    @Test
    func `A key below an object, or an object above keys, is refused`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            _ = try await store.put([1], key: "a")
            _ = try await store.put([1], key: "b/c")
            let before = place.files()
            await expectError(.invalid) { try await store.put([2], key: "a/b") }
            await expectError(.invalid) { try await store.put([2], key: "b") }
            #expect(place.files() == before)
            let writer = try await store.writer(key: "b")
            try await writer.write([2])
            await expectError(.invalid) { try await writer.finish() }
            #expect(place.files() == before)
            #expect(try await store.list(prefix: "") == ["a", "b/c"])
        }
    }

    @Test
    func `Replacing leaves one file an object; deleting leaves none`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            for index in 0..<5 { _ = try await store.put([UInt8(index)], key: "a/b") }
            for _ in 0..<2 { _ = try await store.put([4], key: "a/b") }
            #expect(place.files().count == 1)
            try await store.delete("a/b")
            #expect(place.files() == [])
        }
    }

    @Test
    func `What a dead process left unfinished is removed, where others have the folder after a day, and is never an object`() async throws {
        try await TemporaryFolder.with { place in
            let other = try open(place)
            let old = try place.write([1], to: "objects/.tmp/old")
            let young = try place.write([1], to: "objects/.tmp/young")
            try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -90_000)], ofItemAtPath: old)
            let store = try open(place)
            #expect(!FileManager.default.fileExists(atPath: old))
            #expect(FileManager.default.fileExists(atPath: young))
            #expect(try await store.list(prefix: "") == [])
            #expect(try await other.list(prefix: "") == [])
        }
    }

    @Test
    func `A foreign file in the folder is no object, and can be replaced by one`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            _ = try place.write([1], to: "objects/notes.txt")
            try FileManager.default.createSymbolicLink(atPath: place.path("objects/outside"), withDestinationPath: "/etc/hostname")
            #expect(try await store.list(prefix: "") == [])
            for key in ["notes.txt", "outside"] {
                await expectError(.notFound) { try await store.get(key) }
                _ = try await store.put([2], key: key)
                #expect(try await store.get(key) == [2])
            }
        }
    }

    @Test(.enabled(if: SmallDisk.isPossible, SmallDisk.reason))
    func `A full disk is reported with sizes, gives its space back, and leaves the old object`() async throws {
        try await SmallDisk.with(kilobytes: 512) { disk in
            let store = try open(disk)
            _ = try await store.put([1, 2, 3], key: "model")
            let large = [UInt8](repeating: 1, count: 600_000)
            let said = await expectError(.storageFull) { try await store.put(large, key: "model") }
            #expect(said.contains("is full") && said.contains("600000 bytes of model") && said.contains("bytes are free"))

            let writer = try await store.writer(key: "streamed")
            await expectError(.storageFull) {
                for _ in 0..<10 { try await writer.write([UInt8](repeating: 1, count: 100_000)) }
            }
            #expect(try await store.get("model") == [1, 2, 3])
            #expect(try await store.list(prefix: "") == ["model"])
            _ = try await store.put([UInt8](repeating: 1, count: 300_000), key: "fits-again")
        }
    }

    @Test(.enabled(if: SmallDisk.isPossible, SmallDisk.reason))
    func `A read-only place is reported`() async throws {
        try await SmallDisk.with(kilobytes: 64, readOnly: true) { disk in
            let said = await expectError(.storageFull) { try open(disk) }
            #expect(said.contains(disk.path))
        }
    }

    @Test
    func `Once no process has the folder, unfinished writes there are removed`() async throws {
        try await TemporaryFolder.with { place in
            do { _ = try open(place) }
            let young = try place.write([1], to: "objects/.tmp/young")
            _ = try open(place)
            #expect(!FileManager.default.fileExists(atPath: young))
        }
    }
}
