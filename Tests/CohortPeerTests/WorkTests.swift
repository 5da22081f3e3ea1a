import CohortClient
import CohortCore
import CohortSystem
import CohortWire
import FoundationEssentials
import Glibc
import PeerTestSupport
import Synchronization
import TestSupport
import Testing

@testable import CohortPeer

@Suite
struct RowCacheTests {
    private func file(_ path: String, bytes: Int, usedAt seconds: Double) throws {
        try Data([UInt8](repeating: 7, count: bytes)).write(to: URL(filePath: path))
        try Data("{}".utf8).write(to: URL(filePath: "\(path).json"))
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: seconds)], ofItemAtPath: path)
    }

    private func cache(_ folder: String, keepsData: Bool = false, limit: Int = 100_000) -> RowCache {
        RowCache(folder: folder, limit: limit, keepsData: keepsData, logger: silent)
    }

    private func sessions(in folder: String) -> [String] {
        names(in: folder)?.filter { $0.hasSuffix(".rows") }.map { String($0.dropLast(5)) } ?? []
    }

    /// Whole blocks, as the file system counts them.
    @Test
    func `removes what was used longest ago, and never what is in use`() async throws {
        try await withFolder { folder in
            let cache = cache(folder)
            for (name, used) in [("a", 1.0), ("b", 2), ("c", 3), ("d", 4)] {
                try file("\(folder)/\(name).rows", bytes: 20_480, usedAt: used)
            }
            cache.makeRoom(for: 0, keeping: "")
            #expect(sessions(in: folder) == ["a", "b", "c", "d"])
            // Used again, so the second is the oldest now; the third is in use.
            cache.markUsed("\(folder)/a.rows")
            cache.makeRoom(for: 50_000, keeping: "c")
            #expect(sessions(in: folder) == ["a", "c"])
            cache.makeRoom(for: 500_000, keeping: "c")
            #expect(sessions(in: folder) == ["c"] && names(in: folder) == ["c.rows", "c.rows.json"])
        }
    }

    /// Holes use no disk space.
    @Test
    func `counts what a file with holes takes on the disk`() async throws {
        try await withFolder { folder in
            try file("\(folder)/a.rows", bytes: 4_096, usedAt: 1)
            try #require(truncate("\(folder)/a.rows", 1 << 30) == 0)
            cache(folder).makeRoom(for: 1_000, keeping: "")
            #expect(sessions(in: folder) == ["a"])
        }
    }

    @Test(arguments: [false, true])
    func `rows go with their session, unless they are to be kept`(keepsData: Bool) async throws {
        try await withFolder { folder in
            let cache = cache(folder, keepsData: keepsData)
            for name in ["a", "b", "c"] { try file("\(folder)/\(name).rows", bytes: 1, usedAt: 1) }
            cache.end(session: "a")
            #expect(sessions(in: folder) == (keepsData ? ["a", "b", "c"] : ["b", "c"]))
            cache.begin(session: "b")
            #expect(sessions(in: folder) == (keepsData ? ["a", "b", "c"] : ["b"]))
            #expect(cache.clear(keeping: "b") == keepsData)
            #expect(sessions(in: folder) == ["b"])
        }
    }

    @Test
    func `clears what earlier versions kept, and what was half written`() async throws {
        try await withFolder { folder in
            for name in ["a.csv", "a.csv.part", "a-1.table", "x.part", "s.rows", "s.rows.json"] {
                try Data([1]).write(to: URL(filePath: "\(folder)/\(name)"))
            }
            cache(folder).removeLeftovers()
            #expect(names(in: folder) == ["s.rows", "s.rows.json"])
        }
    }

    @Test(arguments: ["../s", "a/b", "", "a b", ".", "é", String(repeating: "a", count: 129)])
    func `no session's id leads out of the folder`(id: String) throws {
        #expect(throws: CohortError.self) { try cache("/tmp/cache").path(session: id) }
        cache("/tmp/cache").end(session: id)
    }
}

@Suite
struct OutboxTests {
    private func heartbeat(_ epoch: Int, session: String = "s") -> PeerEvent {
        .heartbeat(
            HeartbeatEvent(
                sessionId: session, peerId: "p", generation: 1, round: 0, epoch: epoch, loss: 1, accuracy: nil, samplesPerSecond: nil,
                progress: nil))
    }

    private var error: PeerEvent {
        .error(ErrorEvent(sessionId: "s", peerId: "p", generation: 1, round: 0, message: "no", retryable: true))
    }

    /// Answers each publication with what the test says, and remembers what it took.
    private final class ScriptedTransport: PeerTransport {
        enum Answer {
            case take
            case fail(CohortError.Code)
        }

        /// One list a publication.
        let taken = Mutex<[[PeerEvent]]>([])
        let answers: Mutex<[Answer]>
        init(_ answers: [Answer] = []) { self.answers = Mutex(answers) }
        func run() async throws {}
        func commands() async throws -> AsyncThrowingStream<ReceivedCommand, any Error> { AsyncThrowingStream { nil } }
        func send(_ events: [PeerEvent], to queue: QueueName) async throws {
            let answer = answers.withLock { $0.isEmpty ? .take : $0.removeFirst() }
            if case .fail(let code) = answer { throw CohortError(code, "as the test says") }
            for event in events { _ = try CohortJSON.encode(event) }
            #expect(events.allSatisfy { queue == .events(sessionId: $0.sessionId) })
            taken.withLock { $0.append(events) }
        }
    }

    private func deliver(_ outbox: Outbox, through broker: ScriptedTransport, until done: @escaping @Sendable () -> Bool) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await outbox.deliver(through: broker) }
            group.addTask { try await eventually("the outbox is delivered") { done() } }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    @Test
    func `sends an ERROR in the place of an event that JSON cannot carry, and goes on`() async throws {
        var results = DoneResults(loss: 1, accuracy: nil, samples: 1, epochs: 1, seconds: 1)
        results.evaluation = Counts(samples: 2, lossSum: .nan)
        let done = PeerEvent.done(DoneEvent(sessionId: "s", peerId: "p", generation: 1, round: 4, results: results, update: nil))
        let (outbox, transport) = (Outbox(logger: silent), ScriptedTransport())
        for event in [heartbeat(1), done, error] { outbox.add(event) }
        try await deliver(outbox, through: transport) { outbox.pending.isEmpty }
        let taken = transport.taken.withLock { $0.flatMap { $0 } }
        #expect(taken.count == 3 && taken.first == heartbeat(1) && taken.last == error)
        guard case .error(let failure) = taken[1] else { throw CohortError(.internal, "\(taken[1])") }
        #expect(failure.round == 4 && failure.message.contains("DONE holds a number that is not finite") && !failure.retryable)
    }

    @Test
    func `keeps the newest reports and everything else while nothing can be sent`() {
        let outbox = Outbox(logger: silent)
        outbox.add(error)
        for epoch in 1...600 { outbox.add(heartbeat(epoch)) }
        outbox.add(error)
        let kept = (601 - Outbox.heartbeatLimit)...600
        #expect(outbox.pending == [error] + kept.map { heartbeat($0) } + [error])
    }

    @Test
    func `forgets a session that is over, and no other`() {
        let outbox = Outbox(logger: silent)
        outbox.add(heartbeat(1))
        outbox.add(heartbeat(2, session: "other"))
        outbox.drop(sessionId: "s")
        #expect(outbox.pending == [heartbeat(2, session: "other")])
    }

    @Test
    func `sends in order, together what is of one session, again what could not be taken, and not what is refused for good`() async throws {
        let outbox = Outbox(logger: silent)
        for epoch in 1...4 { outbox.add(heartbeat(epoch)) }
        outbox.add(heartbeat(5, session: "other"))
        outbox.add(heartbeat(6))
        outbox.add(heartbeat(7, session: "third"))
        // The first four are taken at the third attempt; the session "other" is over, "third" is malformed.
        let broker = ScriptedTransport([
            .fail(.unavailable), .fail(.internal), .take, .fail(.conflict), .take, .fail(.invalid),
        ])
        try await deliver(outbox, through: broker) { outbox.pending.isEmpty }
        #expect(broker.taken.withLock { $0 } == [(1...4).map { heartbeat($0) }, [heartbeat(6)]])
    }

    @Test
    func `a report that is followed goes with what follows, and alone when nothing does`() async throws {
        let outbox = Outbox(logger: silent)
        let broker = ScriptedTransport()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await outbox.deliver(through: broker) }
            outbox.add(heartbeat(1))
            try await eventually("the first goes at once") { broker.taken.withLock { $0.count } == 1 }
            outbox.add(heartbeat(2), isFollowed: true)
            outbox.add(error)
            try await eventually("both go") { outbox.pending.isEmpty }
            outbox.add(heartbeat(3), isFollowed: true)
            try await eventually("it goes in the end") { outbox.pending.isEmpty }
            group.cancelAll()
        }
        #expect(broker.taken.withLock { $0 } == [[heartbeat(1)], [heartbeat(2), error], [heartbeat(3)]])
    }

    @Test
    func `ends when the server refuses the peer, and keeps what it has`() async throws {
        let outbox = Outbox(logger: silent)
        outbox.add(error)
        await #expect(throws: CohortError(.unauthenticated, "as the test says")) {
            try await outbox.deliver(through: ScriptedTransport([.fail(.unauthenticated)]))
        }
        #expect(outbox.pending == [error])
    }
}

@Suite
struct EarlyStoppingTests {
    @Test
    func `goes back to the best weights after so many epochs without a better loss`() {
        var stopping = EarlyStopping(patience: 2)
        var stopped: [Bool] = []
        for (epoch, loss) in [3.0, 2, 2.5, 1, 1, 1.5].enumerated() {
            stopped.append(stopping.shouldStop(after: loss, weights: { [Float(epoch)] }))
        }
        #expect(stopped == [false, false, false, false, false, true])
        #expect(stopping.weights == [3])
    }

    @Test
    func `a loss that is not a number is never the best`() {
        var stopping = EarlyStopping(patience: 1)
        #expect(stopping.shouldStop(after: .nan, weights: { [1] }) == true)
        #expect(stopping.weights == nil)
    }
}

@Suite
struct BackoffTests {
    @Test
    func `doubles up to the longest wait, each within the upper half of its span, and restarts after a success`() {
        var backoff = Backoff(first: 0.2, longest: 10)
        for span in [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10] {
            let wait = backoff.next()
            #expect(wait >= .seconds(span / 2) && wait <= .seconds(span))
        }
        for _ in 0..<100 { _ = backoff.next() }
        backoff.reset()
        #expect(backoff.next() <= .seconds(0.2))
    }
}

@Suite
struct RunControlTests {
    @Test
    func `what waits is cancelled`() async throws {
        let control = RunControl()
        await #expect(throws: CancellationError.self) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await control.run { try await Task.sleep(for: .seconds(3_600)) } }
                control.stop()
                try await group.waitForAll()
            }
        }
        #expect(control.isStopped)
    }

    @Test
    func `what is finished is given back, with its error when it has one`() async throws {
        let value = try await RunControl().run { 42 }
        #expect(value == 42)
        await #expect(throws: CohortError(.invalid, "no")) { try await RunControl().run { throw CohortError(.invalid, "no") } }
    }
}
