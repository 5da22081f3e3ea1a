import CohortCore
import CohortSession
import FoundationEssentials
import SQLiteDocuments
import Testing

@testable import CohortServer

/// Of the machines that others share, one account holds its share and no more.
@Suite struct PoolShareTests {
    private static let shared = #","serve":"everyone"}"#

    @Test func `one account takes at most its share of what others share, in as many sessions as it likes`() async throws {
        try await withServer { world in
            let lab = try await world.joinToken(try await world.signup("lab@example.org"))
            for number in 0..<4 {
                let machine = ServerWorld.registration("lab\(number)").dropLast() + Self.shared
                #expect(try await world.call("POST", "/peers", String(machine), token: lab).status == 201)
            }
            let ada = try await world.signup()
            func start(_ peers: Int, _ token: String) async throws -> ServerWorld.Answer {
                try await world.start([("peers", "\(peers)"), ("pool", "everyone")], token: token)
            }
            let three = try await start(3, ada)
            #expect(three.status == 400 && three.body.contains(#""code":"not_enough_peers""#), "\(three)")
            #expect(three.detail.contains("one account may use 2 of the 4 machines that others share at a time"), "\(three)")
            let check = try await world.call("POST", "/sessions/check", #"{"peers":1,"pool":"everyone"}"#, token: ada)
            #expect(check.body.contains(#""free":2"#), "\(check)")
            #expect(try await start(1, ada).status == 201)
            // One's own machine never counts.
            _ = try await world.register("mine", try await world.joinToken(ada))
            #expect(try await start(2, ada).status == 201)
            #expect(try await start(1, ada).status == 400)
            let bob = try await world.signup("bob@example.org")
            #expect(try await start(2, bob).status == 201)
            let held = try await world.documents.peers().compactMap(\.sessionId)
            #expect(held.count == 5)
        }
    }

    @Test(arguments: [(1.0, 201), (0.0, 400)]) func `the share is the server's setting`(share: Double, status: Int) async throws {
        try await withServer(change: { $0.poolShare = share }) { world in
            let lab = try await world.joinToken(try await world.signup("lab@example.org"))
            for number in 0..<2 {
                _ = try await world.call(
                    "POST", "/peers", String(ServerWorld.registration("lab\(number)").dropLast() + Self.shared), token: lab)
            }
            let answer = try await world.start([("peers", "2"), ("pool", "everyone")], token: try await world.signup())
            #expect(answer.status == status, "\(answer)")
        }
    }
}
