import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import InMemory
import Logging
import Synchronization
import TestSupport
import Testing

@testable import CohortCoordinator

/// A start that was not told whether its session was stored takes it back, while a coordinator already works on it.
@Suite struct TakenBackTests {
    private static let csv = "x,z,y\n" + (0..<24).map { "\($0),\($0 * 7 % 5),\($0 % 2 == 0 ? "even" : "odd")\n" }.joined()

    @Test func `what was made for a session that is gone is removed`() async throws {
        let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-taken-\(newIdentifier())"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let documents = MemoryDocuments()
        let objects = WatchedObjects()
        objects.stored.withLock { stored in
            // The moment at which the session's schema stands, and its document does not name it yet.
            stored = { key in
                guard key.hasPrefix("schemas/") else { return }
                let id = String(key.dropFirst("schemas/".count).dropLast(".json".count))
                try await documents.freePeers(ofSession: id)
                try await documents.deleteSession(id: id)
            }
        }
        var parts = SessionWorld.Parts.inMemory
        parts.documents = documents
        parts.objects = objects
        let world = try await SessionWorld(csv: Self.csv, scratch: folder, parts: parts)
        let lived = try await world.live(FaultPlan(nil, time: world.time), starting: SessionWorld.settings("fedavg")) {
            guard objects.keys.withLock({ $0.contains { $0.hasPrefix("schemas/") } }) else { return false }
            let left = try await objects.list(prefix: "schemas/")
            return left.isEmpty
        }
        #expect(lived)
        #expect(try await documents.sessions(ownerId: "owner", limit: 1).isEmpty)
        #expect(try await objects.list(prefix: "checkpoints/").isEmpty)
    }
}

/// A session without a lease is its start's to write: what a coordinator cannot read of it changes nothing.
@Suite struct BeingStartedTests {
    private struct NoFeed: SessionFeed {
        func poolChanged() async {}
        func poolChanges() async -> AsyncStream<Void> { AsyncStream { $0.finish() } }
        func publish(_ notice: SessionNotice) async {}
        func subscribe(sessionId: String) async -> AsyncStream<SessionNotice> { AsyncStream { nil } }
    }

    private final class Looks: Sendable {
        let count = Mutex(0)
    }

    @Test(arguments: 1...8) func `a fault before the lease leaves the document alone`(call: Int) async throws {
        let documents = MemoryDocuments()
        var session = Session(
            id: "s", ownerId: "owner", createdAt: Date(), settings: SessionWorld.settings("fedavg"), peers: [], upload: nil,
            filename: "f.csv")
        session.isStarting = true
        try await documents.insert(session)
        let stored = try await documents.session(id: "s")
        let time = FastTime(factor: 500)
        let looks = Looks()
        let plan = FaultPlan(.fail, at: call, time: time) { name in looks.count.withLock { $0 += name == "session" ? 1 : 0 } }
        let coordinator = try Coordinator(
            documents: FaultyDocuments(documents, plan), objects: MemoryObjects(), transport: MemoryBroker(), feed: NoFeed(),
            configuration: CoordinatorConfiguration(
                owner: "coordinator", leaseSeconds: 30, rules: .init(), startSeconds: 1e9,
                scratchFolder: "\(FileManager.default.temporaryDirectory.path)/cohort-\(newIdentifier())"),
            time: time, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await coordinator.run() }
            group.addTask {
                // After a fault it asks again, and with every sweep.
                try await eventually("the session was looked at") { plan.count > call && looks.count.withLock { $0 } > call + 3 }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
        #expect(try await documents.session(id: "s") == stored)
    }
}

/// Objects in memory that say what is put before its putter goes on.
private final class WatchedObjects: ObjectStore {
    private let base = MemoryObjects()
    let keys = Mutex<[String]>([])
    let stored = Mutex<(@Sendable (String) async throws -> Void)?>(nil)

    var bucket: String { base.bucket }
    func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference {
        let reference = try await base.put(bytes, key: key)
        try await stored.withLock { $0 }?(key)
        keys.withLock { $0.append(key) }
        return reference
    }
    func ready() async throws { try await base.ready() }
    func writer(key: String) async throws -> any ObjectWriter { try await base.writer(key: key) }
    func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error> {
        try await base.read(key, from: offset)
    }
    func get(_ key: String) async throws -> [UInt8] { try await base.get(key) }
    func size(of key: String) async throws -> Int? { try await base.size(of: key) }
    func localFile(of key: String) async throws -> String? { try await base.localFile(of: key) }
    func list(prefix: String) async throws -> [String] { try await base.list(prefix: prefix) }
    func delete(_ keys: [String]) async throws { try await base.delete(keys) }
    func presignedGet(_ key: String, scope: String?, expiry: Date) async throws -> String {
        try await base.presignedGet(key, scope: scope, expiry: expiry)
    }
    func closeLinks(scope: String) async throws { try await base.closeLinks(scope: scope) }
    func presignedPut(_ key: String, maxBytes: Int, expiry: Date) async throws -> String {
        try await base.presignedPut(key, maxBytes: maxBytes, expiry: expiry)
    }
    func closeLinks(prefix: String) async throws { try await base.closeLinks(prefix: prefix) }
    func removeUnfinished(before date: Date) async throws { try await base.removeUnfinished(before: date) }
    func close() async throws { try await base.close() }
}
