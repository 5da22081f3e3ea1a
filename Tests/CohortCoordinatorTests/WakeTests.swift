import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import InMemory
import Logging
import Synchronization
import Testing

@testable import CohortCoordinator

@Suite struct WakeTests {
    /// Time that the test moves; no sleep ends.
    private final class HeldTime: TimeSource {
        private let moved = Mutex(0.0)
        var monotonic: Double { moved.withLock { $0 } }
        var date: Date { Date(timeIntervalSince1970: 1_769_860_800 + monotonic) }
        func move(_ seconds: Double) { moved.withLock { $0 += seconds } }
        func sleep(seconds: Double) async throws { try await Task.sleep(for: .seconds(86_400)) }
    }

    private final class Woken: Sendable {
        let coordinator = Mutex<Coordinator?>(nil)
        let reads = Atomic(0)
    }

    private struct NoFeed: SessionFeed {
        func poolChanged() async {}
        func poolChanges() async -> AsyncStream<Void> { AsyncStream { $0.finish() } }
        func publish(_ notice: SessionNotice) async {}
        func subscribe(sessionId: String) async -> AsyncStream<SessionNotice> { AsyncStream { nil } }
    }

    /// The sweep meets a session whose start goes on; it is woken for its start after it has looked, and before it is forgotten.
    @Test(.timeLimit(.minutes(2))) func `a session that is woken while it is skipped does not wait for the sweep`() async throws {
        let (time, documents, broker, woken) = (HeldTime(), MemoryDocuments(), MemoryBroker(), Woken())
        let (leases, lease) = AsyncStream.makeStream(of: Void.self)
        var session = Session(
            id: "s", ownerId: "owner", createdAt: time.date, settings: SessionSettings(), peers: [],
            upload: ObjectReference(key: "k", sha256: "", bytes: 1), filename: "f.csv")
        session.isStarting = true
        try await documents.insert(session)
        let plan = FaultPlan(nil, time: time) { name in
            if name == "takeLease" { lease.yield() }
            guard name == "session" else { return }
            switch woken.reads.add(1, ordering: .relaxed).newValue {
            // What it reads now is that the start goes on.
            case 1: woken.coordinator.withLock { $0 }?.wake(sessionId: "s")
            // By now the start has taken too long: the session is a coordinator's.
            case 2: time.move(61)
            default: break
            }
        }
        let coordinator = try Coordinator(
            documents: FaultyDocuments(documents, plan), objects: MemoryObjects(), transport: broker, feed: NoFeed(),
            configuration: CoordinatorConfiguration(
                owner: "coordinator", leaseSeconds: 30, startSeconds: 60,
                scratchFolder: FileManager.default.temporaryDirectory.appending(path: "cohort-wake-\(newIdentifier())").path),
            time: time, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        woken.coordinator.withLock { $0 = coordinator }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await coordinator.run() }
            for await _ in leases { break }
            group.cancelAll()
            try await group.waitForAll()
        }
        #expect(woken.reads.load(ordering: .relaxed) >= 2)
    }
}
