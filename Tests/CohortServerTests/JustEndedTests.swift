import CohortCore
import SQLiteDocuments
import Testing

@testable import CohortServer

/// A session says that it has ended before its peers are free: whoever acts on that is not refused.
@Suite struct JustEndedTests {
    @Test func `peers of a session that has just ended are waited for, and it can be deleted`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            _ = try await world.register("one", try await world.joinToken(user))
            let started = try await world.start([("peers", "1")], token: user)
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            let busy = try await world.call("POST", "/sessions/check", #"{"peers":1}"#, token: user)
            #expect(busy.status == 503 && busy.detail.contains("(one)"), "\(busy.body)")
            var session = try #require(await world.documents.session(id: id))
            session.status = .completed
            session.isEnding = true
            session = try await world.documents.update(session)

            async let check = world.call("POST", "/sessions/check", #"{"peers":1}"#, token: user)
            async let deletion = world.call("DELETE", "/sessions/\(id)", token: user)
            session.isEnding = nil
            _ = try await world.documents.update(session)
            try await world.documents.freePeers(ofSession: id)
            #expect(try await check.body.contains(#""free":1"#))
            #expect(try await deletion.status == 204)
        }
    }
}
