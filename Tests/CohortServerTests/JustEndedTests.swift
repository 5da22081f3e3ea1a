import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import SQLiteDocuments
import Synchronization
import Testing

@testable import CohortServer

/// A session says that it has ended before its peers are free: a request that follows is not refused.
@Suite struct JustEndedTests {
    /// Time that stands still; what a test sets happens in the next sleep.
    private final class HeldTime: TimeSource {
        private let next = Mutex<(@Sendable () async throws -> Void)?>(nil)
        private let passed = Mutex(0.0)

        let date = Date()
        var monotonic: Double { passed.withLock { $0 } }

        func meanwhile(_ action: @escaping @Sendable () async throws -> Void) { next.withLock { $0 = action } }

        func sleep(seconds: Double) async throws {
            // The presence of peers is inspected at intervals, which do not pass here.
            guard seconds < 0.1 else { return try await Task.sleep(for: .seconds(3_600)) }
            passed.withLock { $0 += seconds }
            let action = next.withLock { next in
                defer { next = nil }
                return next
            }
            try await action?()
        }
    }

    @Test func `peers of a session that has just ended are waited for, and it can be deleted`() async throws {
        let time = HeldTime()
        try await withServer(time: time) { world in
            let user = try await world.signup()
            _ = try await world.register("one", try await world.joinToken(user))
            let started = try await world.start([("peers", "1")], token: user)
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            let before = time.monotonic
            let busy = try await world.call("POST", "/sessions/check", #"{"peers":1}"#, token: user)
            #expect(busy.status == 400 && busy.detail.contains("(one)"), "\(busy.body)")
            #expect(time.monotonic == before, "one that runs is not waited for")

            let set = { @Sendable (isEnding: Bool?) in
                var session = try #require(await world.documents.session(id: id))
                session.status = .completed
                session.isEnding = isEnding
                _ = try await world.documents.update(session)
            }
            try await set(true)
            time.meanwhile { try await world.documents.freePeers(ofSession: id) }
            let check = try await world.call("POST", "/sessions/check", #"{"peers":1}"#, token: user)
            #expect(check.body.contains(#""free":1"#), "\(check.body)")
            #expect(time.monotonic > before, "it was waited for")

            // In vain: the ending goes on for longer than one waits.
            let late = try await world.call("DELETE", "/sessions/\(id)", token: user)
            #expect(late.status == 503 && late.detail.contains("still being told"), "\(late.body)")
            time.meanwhile { try await set(nil) }
            #expect(try await world.call("DELETE", "/sessions/\(id)", token: user).status == 204)
        }
    }
}
