import CohortCore
import CohortSession
import CohortSystem
import CohortWire
import FoundationEssentials
import InMemory
import Synchronization
import Testing

@testable import CohortCoordinator

@Suite struct `Uploads and their copies` {
    private func withWorld(_ body: (SessionWorld) async throws -> Void) async throws {
        let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-sweep-\(newIdentifier())"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try await body(try await SessionWorld(csv: "", scratch: folder))
    }

    @Test func `of a start that was cut short the upload goes a day later, all others stay`() async throws {
        try await withWorld { world in
            func put(_ key: String) async throws -> ObjectReference { try await world.objects.put([1], key: key) }
            let now = world.time.date
            let stray = try await put(Session.uploadKey(at: now.addingTimeInterval(-90_000)))
            let used = try await put(Session.uploadKey(at: now.addingTimeInterval(-90_000)))
            let young = try await put(Session.uploadKey(at: now))
            let others = ["2001.csv", "20260131T120000123Z.csv", "models/x.safetensors"]
            for key in others { _ = try await put(key) }
            var session = Session(
                id: "s", ownerId: "owner", createdAt: now, settings: SessionSettings(), peers: [], upload: used, filename: "f.csv")
            session.status = .completed
            try await world.documents.insert(session)
            try FileManager.default.createDirectory(atPath: world.scratch, withIntermediateDirectories: true)
            for name in ["cohort-copy-x.csv", "notes.txt"] {
                #expect(FileManager.default.createFile(atPath: "\(world.scratch)/\(name)", contents: nil))
            }
            let atCalls = Mutex<Set<[String]>>([])
            let plan = FaultPlan(nil, time: world.time) { _ in
                let names = (try? FileManager.default.contentsOfDirectory(atPath: world.scratch)) ?? []
                atCalls.withLock { _ = $0.insert(names) }
            }
            #expect(
                try await world.live(
                    plan, starting: nil,
                    until: {
                        try await world.objects.size(of: stray.key) == nil
                    }))
            #expect(atCalls.withLock { $0 } == [["notes.txt"]], "copies go before anything that could make one")
            #expect(try await world.objects.list(prefix: "") == ([used.key, young.key] + others).sorted())
            #expect(try FileManager.default.contentsOfDirectory(atPath: world.scratch) == ["notes.txt"])
        }
    }

    @Test func `a key tells its time, sorts by it, and is not met twice`() {
        let date = Date(timeIntervalSince1970: 1_769_860_800.125)
        let keys = (0..<1_000).map { _ in Session.uploadKey(at: date) }
        #expect(Set(keys).count == 1_000)
        #expect(keys.allSatisfy { $0.hasPrefix("20260131T120000125") && Session.isUploadKey($0) })
        #expect(Session.uploadKey(at: date.addingTimeInterval(-0.002)) < keys.min() ?? "")
        for key in ["", "x", "20260131T120000123Z.csv", "updates/s/x", String(repeating: "2", count: 32), keys[0] + "x"] {
            #expect(!Session.isUploadKey(key), "\(key)")
        }
    }

    @Test func `a copy has the object's bytes, and one whose bytes were changed is refused`() async throws {
        try await withWorld { world in
            let bytes = [UInt8](repeating: 7, count: 3 << 20)
            let reference = try await world.objects.put(bytes, key: "a.csv")
            let loader = DataFileLoader(world.objects, folder: world.scratch, on: try ThreadExecutor())
            var file: DataFile? = try await loader.file(of: reference)
            let path = try #require(file?.path)
            #expect(FileManager.default.contents(atPath: path) == Data(bytes))
            await loader.release()
            #expect(FileManager.default.fileExists(atPath: path), "it is in use")
            file = nil
            #expect(!FileManager.default.fileExists(atPath: path))
            _ = try await world.objects.put([8], key: "a.csv")
            let error = await #expect(throws: CohortError.self) { _ = try await loader.file(of: reference) }
            #expect(error?.code == .internal && error?.message.contains("a.csv is damaged") == true)
            #expect(try FileManager.default.contentsOfDirectory(atPath: world.scratch).isEmpty)
            _ = file
        }
    }
}
