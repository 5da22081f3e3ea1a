import CohortCore
import Foundation
import TestSupport
import Testing

@Suite
struct ObjectStoreTests {
    /// Of "abc", by FIPS 180-2.
    static let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    @Test(arguments: ObjectStoreKind.all)
    func `Small bytes come back as they were put`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let key = "updates/s/g1-r0-p.safetensors"
            let reference = try await store.put([UInt8]("abc".utf8), key: key)
            #expect(reference == ObjectReference(key: key, sha256: Self.abc, bytes: 3))
            #expect(try await store.size(of: key) == 3)
            #expect(try await store.get(key) == [UInt8]("abc".utf8))
            #expect(store.bucket.hasPrefix("cohort"))
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `An empty object is an object`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let reference = try await store.put([], key: "empty")
            #expect(reference.bytes == 0 && reference.sha256.hasPrefix("e3b0c44298fc1c14"))
            #expect(try await store.get("empty") == [])
            #expect(try await store.writer(key: "empty.csv").finish().sha256 == reference.sha256)
            #expect(try await store.get("empty.csv") == [])
            #expect(try await store.size(of: "empty.csv") == 0)
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `5 MB are stored, and read in chunks of at most 1 MiB, from any offset`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let bytes = (0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
            let writer = try await store.writer(key: "20260131T120000123Z.csv")
            for start in stride(from: 0, to: bytes.count, by: 65_536) {
                try await writer.write(Array(bytes[start..<min(start + 65_536, bytes.count)]))
            }
            let reference = try await writer.finish()
            #expect(reference.bytes == bytes.count)
            #expect(try await store.put(bytes, key: "again").sha256 == reference.sha256)
            for offset in [0, 1, 1 << 20, 4_999_999, 5_000_000] {
                var read: [UInt8] = []
                for try await chunk in try await store.read(reference.key, from: offset) {
                    #expect(!chunk.isEmpty && (chunk.count <= 1 << 20 || kind.givesAllAtOnce))
                    read += chunk
                }
                #expect(read == Array(bytes[offset...]), "from \(offset)")
            }
            for offset in [-1, 5_000_001] {
                await expectError(.invalid) { for try await _ in try await store.read(reference.key, from: offset) {} }
            }
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `What is not there is not found`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            #expect(try await store.size(of: "nothing/here") == nil)
            await expectError(.notFound) { try await store.get("nothing/here") }
            try await store.delete("nothing/here")
            #expect(try await store.list(prefix: "nothing/") == [])
            await expectError(.notFound) { try await store.localFile(of: "nothing/here") }
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `Keys are listed by prefix, sorted; a deleted one is gone`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let keys = ["updates/s1/b", "updates/s1/a", "updates/s10/a", "updates/s2/a", "checkpoints/s1/r1.safetensors", "top.csv"]
            for key in keys { _ = try await store.put([1], key: key) }
            #expect(try await store.list(prefix: "") == keys.sorted())
            #expect(try await store.list(prefix: "updates/s1/") == ["updates/s1/a", "updates/s1/b"])
            #expect(try await store.list(prefix: "updates/s1") == ["updates/s1/a", "updates/s1/b", "updates/s10/a"])
            #expect(try await store.list(prefix: "upd").count == 4)
            #expect(try await store.list(prefix: "top.csv") == ["top.csv"])
            #expect(try await store.list(prefix: "x") == [])
            try await store.delete("updates/s1/a")
            try await store.delete("updates/s1/a")
            #expect(try await store.list(prefix: "updates/s1/") == ["updates/s1/b"])
            #expect(try await store.size(of: "updates/s1/a") == nil)
            await expectError(.notFound) { try await store.get("updates/s1/a") }
            try await store.delete(["updates/s10/a", "not/there", "updates/s2/a", "checkpoints/s1/r1.safetensors"])
            #expect(try await store.list(prefix: "") == ["top.csv", "updates/s1/b"])
            try await store.delete([])
            #expect(try await store.list(prefix: "") == ["top.csv", "updates/s1/b"])
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `An object is replaced atomically: readers see the old or the new one, whole`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let versions = (0..<3).map { [UInt8](repeating: UInt8($0), count: 300_000 + $0) }
            _ = try await store.put(versions[0], key: "model")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for writer in 0..<2 {
                    group.addTask {
                        for round in 0..<15 { _ = try await store.put(versions[(writer + round) % 3], key: "model") }
                    }
                }
                for _ in 0..<4 {
                    group.addTask {
                        for _ in 0..<25 {
                            let bytes = try await store.get("model")
                            #expect(bytes == versions[Int(bytes.first ?? 0)])
                        }
                    }
                }
                try await group.waitForAll()
            }
            let size = try await store.size(of: "model")
            #expect(try await store.get("model").count == size)
            #expect(try await store.list(prefix: "") == ["model"])
        }
    }

    @Test(
        arguments: [
            "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a//b", "a/", ".hidden", "a/.tmp/b", ".tmp/x", "a\\b", "a b", "a\nb",
            "a\0b",
            "é", "a?b", "a%2e", String(repeating: "a", count: 129), String(repeating: "a/", count: 256) + "a",
        ], ObjectStoreKind.all)
    func `A key that could leave the store, or is none, is refused`(_ key: String, _ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, place in
            _ = try place.write([1], to: "file")
            await expectError(.invalid) { try await store.put([1], key: key) }
            await expectError(.invalid) { try await store.writer(key: key) }
            await expectError(.invalid) { try await store.localFile(of: key) }
            await expectError(.invalid) { try await store.get(key) }
            await expectError(.invalid) { try await store.size(of: key) }
            await expectError(.invalid) { try await store.delete(key) }
            await expectError(.invalid) { try await store.presignedGet(key, expiry: moment()) }
            await expectError(.invalid) { try await store.presignedPut(key, maxBytes: 1, expiry: moment()) }
            #expect(place.files() == ["file"])
        }
    }

    @Test(arguments: ["../", "a/../../", "/etc/", ".tmp/"], ObjectStoreKind.all)
    func `A prefix cannot leave the store`(_ prefix: String, _ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            await expectError(.invalid) { try await store.list(prefix: prefix) }
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `Get in a cancelled task throws; it never returns a part`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let bytes = [UInt8](repeating: 1, count: 3 << 20)
            _ = try await store.put(bytes, key: "large")
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await store.get("large")
            }
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `Where it has a file on this machine, the file holds the object's bytes`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            _ = try await store.put([UInt8]("abc".utf8), key: "a/b.csv")
            if let path = try await store.localFile(of: "a/b.csv") {
                #expect(FileManager.default.contents(atPath: path) == Data("abc".utf8))
            } else {
                #expect(kind.testDescription != "directory")
            }
            await expectError(.notFound) { try await store.localFile(of: "a/c.csv") }
            try await store.ready()
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `A streamed object appears, whole, when its writer finishes`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let writer = try await store.writer(key: "streamed")
            var all: [UInt8] = []
            for index in 0..<50 {
                let chunk = [UInt8](repeating: UInt8(index), count: index % 7 == 0 ? 0 : 100_000 + index)
                try await writer.write(chunk)
                all += chunk
                #expect(try await store.size(of: "streamed") == nil)
            }
            let reference = try await writer.finish()
            #expect(try await store.size(of: "streamed") == reference.bytes)
            #expect(try await store.put(all, key: "at-once").sha256 == reference.sha256)
            #expect(try await store.get("streamed") == all)
            await writer.abort()
            #expect(try await store.size(of: "streamed") == reference.bytes, "aborting after the end is harmless")
            await expectError(.internal) { try await writer.write([1]) }
            await expectError(.internal) { try await writer.finish() }
        }
    }

    @Test(arguments: ObjectStoreKind.all)
    func `An aborted or forgotten write leaves nothing, and the old object as it was`(_ kind: ObjectStoreKind) async throws {
        try await kind.withEmpty { store, place in
            let old = try await store.put([1, 2, 3], key: "a")
            let before = place.files()
            let writer = try await store.writer(key: "a")
            try await writer.write([UInt8](repeating: 0, count: 100_000))
            await writer.abort()
            await writer.abort()
            do { try await store.writer(key: "a").write([9]) }
            #expect(place.files() == before)
            #expect(try await store.size(of: "a") == old.bytes)
            #expect(try await store.get("a") == [1, 2, 3])
        }
    }
}
