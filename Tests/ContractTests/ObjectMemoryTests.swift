import CohortCore
import DirectoryObjects
import Foundation
import TestSupport
import Testing

@Suite
struct ObjectMemoryTests {
    /// - Parameter delay: never is an hour.
    private func open(
        _ place: TemporaryFolder, bytes: Int = 1 << 20, largest: Int = 1 << 20, delay: Duration = .seconds(3_600)
    ) throws -> DirectoryObjects {
        try DirectoryObjects(
            path: place.path("objects"), secret: testSecret,
            memory: MemoryPolicy(transient: ["updates/"], copied: ["checkpoints/"], bytes: bytes, largest: largest, writeDelay: delay))
    }

    /// The files with an object's bytes.
    private func files(_ place: TemporaryFolder, _ folder: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: place.path("objects/\(folder)"))) ?? []).filter { $0.hasPrefix(".") }
    }

    private func write(_ bytes: [UInt8], _ key: String, to store: DirectoryObjects) async throws -> ObjectReference {
        let writer = try await store.writer(key: key)
        for start in stride(from: 0, to: bytes.count, by: 1_000) {
            try await writer.write(Array(bytes[start..<min(bytes.count, start + 1_000)]))
        }
        return try await writer.finish()
    }

    @Test
    func `A short-lived object that is deleted in time never is on the disk; another is there at once`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            let put = try await store.put([1, 2, 3], key: "updates/s/a")
            let written = try await write([UInt8](repeating: 4, count: 300_000), "updates/s/b", to: store)
            _ = try await store.put([5], key: "checkpoints/s/c")
            #expect(files(place, "updates/s") == [])
            #expect(files(place, "checkpoints/s").count == 1)
            #expect(try await store.list(prefix: "updates/") == ["updates/s/a", "updates/s/b"])
            #expect(try await store.head("updates/s/a") == put)
            #expect(try await store.head("updates/s/b") == written)
            #expect(try await store.get("updates/s/b") == [UInt8](repeating: 4, count: 300_000))
            try await store.delete(["updates/s/a", "updates/s/b"])
            try await store.close()
            #expect(files(place, "updates/s") == [])
            #expect(try await open(place).list(prefix: "updates/") == [])
        }
    }

    @Test
    func `A short-lived object that is still there after the delay is written out, and outlives the process`() async throws {
        try await TemporaryFolder.with { place in
            var store = try open(place, delay: .milliseconds(1))
            let first = try await store.put([1, 2, 3], key: "updates/s/a")
            try await eventually("an object is in the folder") { files(place, "updates/s").count == 1 }
            // After the watch has ended as well.
            let second = try await write([UInt8](repeating: 4, count: 5_000), "updates/s/b", to: store)
            try await eventually("an object is in the folder") { files(place, "updates/s").count == 2 }
            try await store.delete("updates/s/a")
            #expect(try await store.head("updates/s/a") == nil)
            // As after a `kill -9`: nothing is closed.
            store = try open(place)
            #expect(try await store.head("updates/s/a") == nil, "\(first)")
            #expect(try await store.head("updates/s/b") == second)
        }
    }

    @Test
    func `Closing writes out what is in memory alone; a process that dies loses it`() async throws {
        try await TemporaryFolder.with { place in
            let first = try open(place)
            let reference = try await first.put([1, 2, 3], key: "updates/a")
            #expect(try await open(place).head("updates/a") == nil)
            try await first.close()
            #expect(try await open(place).head("updates/a") == reference)
            #expect(try await open(place).get("updates/a") == [1, 2, 3])
        }
    }

    @Test(arguments: ["too large", "no room", "no room for the rest"])
    func `Where memory does not suffice, a file does`(_ why: String) async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place, bytes: why == "no room" ? 300_000 : 700_000, largest: why == "too large" ? 200_000 : 1 << 20)
            if why != "too large" { _ = try await store.put([UInt8](repeating: 1, count: 290_000), key: "updates/s/first") }
            let bytes = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
            let written = try await write(bytes, "updates/s/b", to: store)
            #expect(files(place, "updates/s").count == 1)
            #expect(try await store.head("updates/s/b") == written)
            #expect(try await store.get("updates/s/b") == bytes)
            let put = try await store.put(bytes, key: "updates/s/c")
            #expect(put.sha256 == written.sha256)
            #expect(files(place, "updates/s").count == 2)
            // What the broken off write had is room again.
            try await store.delete(["updates/s/first"])
            let aborted = try await store.writer(key: "updates/s/d")
            try await aborted.write([UInt8](repeating: 1, count: 150_000))
            await aborted.abort()
            _ = try await store.put([UInt8](repeating: 2, count: 190_000), key: "updates/s/e")
            #expect(files(place, "updates/s").count == 2)
        }
    }

    @Test
    func `Copies give way to others, and are what was stored last`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place, bytes: 250)
            for round in 0..<20 {
                let reference = try await store.put([UInt8](repeating: UInt8(round), count: 100), key: "checkpoints/s/r\(round % 5)")
                #expect(try await store.head("checkpoints/s/r\(round % 5)") == reference)
            }
            for round in 15..<20 {
                #expect(try await store.get("checkpoints/s/r\(round % 5)") == [UInt8](repeating: UInt8(round), count: 100))
            }
            // By a writer, as large weights are.
            _ = try await write([7, 7], "checkpoints/s/r4", to: store)
            #expect(try await store.get("checkpoints/s/r4") == [7, 7])
            // As what others have written before.
            let again = try open(place, bytes: 250)
            #expect(try await again.get("checkpoints/s/r3") == [UInt8](repeating: 18, count: 100))
        }
    }

    @Test
    func `A local file of a short-lived object is made when it is asked for`() async throws {
        try await TemporaryFolder.with { place in
            let store = try open(place)
            _ = try await store.put([1, 2, 3], key: "updates/a")
            let path = try #require(await store.localFile(of: "updates/a"))
            #expect(FileManager.default.contents(atPath: path) == Data([1, 2, 3]))
            try await store.delete("updates/a")
            #expect(FileManager.default.contents(atPath: path) == nil)
        }
    }
}
