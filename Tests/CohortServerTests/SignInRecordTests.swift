import CohortAPI
import CohortCore
import CohortSession
import FoundationEssentials
import SQLiteDocuments
import Testing

@testable import CohortServer

/// Sign-ins as records: listed, and ended on the server.
@Suite struct SignInRecordTests {
    private func signIn(_ world: ServerWorld, program: String, password: String = "correct horse") async throws -> String {
        let answer = try await world.call(
            "POST", "/auth/signin", #"{"email":"ada@example.org","password":"\#(password)"}"#, headers: [("User-Agent", program)])
        #expect(answer.status == 200, "\(answer)")
        return try CohortJSON.decode(API.AccessToken.self, from: answer.body.utf8).accessToken
    }

    private func list(_ world: ServerWorld, _ token: String) async throws -> [API.SignInView] {
        try CohortJSON.decode([API.SignInView].self, from: try await world.call("GET", "/auth/signins", token: token).body.utf8)
    }

    private func isGood(_ world: ServerWorld, _ token: String) async throws -> Bool {
        try await world.call("GET", "/auth/me", token: token).status == 200
    }

    @Test func `signing out ends the sign-in on the server, and no other`() async throws {
        try await withServer { world in
            let first = try await world.signup()
            let second = try await signIn(world, program: "cohort")
            for token in [first, second] { #expect(try await isGood(world, token)) }
            #expect(try await world.call("POST", "/auth/signout", token: second).status == 204)
            let answer = try await world.call("GET", "/auth/me", token: second)
            #expect(answer.status == 401 && answer.detail == "this sign-in was ended: sign in again")
            #expect(try await world.call("POST", "/auth/signout", token: second).status == 401)
            #expect(try await isGood(world, first))
        }
    }

    @Test func `a person sees the sign-ins, ends any of them, and no other user's`() async throws {
        try await withServer { world in
            let first = try await world.signup()
            let second = try await signIn(world, program: "Firefox\u{a0}\u{202e} " + String(repeating: "x", count: 500))
            let signIns = try await list(world, first)
            #expect(signIns.count == 2 && signIns.map(\.current) == [false, true])
            #expect(signIns[0].client.hasPrefix("Firefox") && signIns[0].client.count <= SignIn.clientLength + 1)
            #expect(signIns[0].client.unicodeScalars.allSatisfy { $0.value >= 32 } && signIns[0].network == "127.0.0.0")
            #expect(signIns[0].expiresAt > signIns[0].createdAt)
            let eve = try await world.signup("eve@example.org")
            #expect(try await world.call("DELETE", "/auth/signins/\(signIns[0].id)", token: eve).status == 404)
            #expect(try await isGood(world, second))
            #expect(try await world.call("DELETE", "/auth/signins/\(signIns[0].id)", token: first).status == 204)
            #expect(try await !isGood(world, second))
            #expect(try await world.call("DELETE", "/auth/signins/\(signIns[0].id)", token: first).status == 404)
            #expect(try await list(world, first).map(\.current) == [true])
        }
    }

    @Test func `a changed password ends all sign-ins but the new one`() async throws {
        try await withServer { world in
            let first = try await world.signup()
            let second = try await signIn(world, program: "cohort")
            #expect(try await isGood(world, first))
            let changed = try await world.call(
                "POST", "/auth/password", #"{"password":"correct horse","new_password":"another horse"}"#, token: second)
            let new = try CohortJSON.decode(API.AccessToken.self, from: changed.body.utf8).accessToken
            for token in [first, second] { #expect(try await !isGood(world, token)) }
            #expect(try await list(world, new).map(\.current) == [true])
        }
    }

    @Test func `a token without a sign-in is not accepted`() async throws {
        try await withServer(change: { $0.jwtSecret = String(repeating: "k", count: 32) }) { world in
            _ = try await world.signup()
            let user = try #require(try await world.documents.user(email: "ada@example.org"))
            let tokens = try await Tokens(key: [UInt8](repeating: 107, count: 32))
            let now = Date().timeIntervalSince1970
            for id in [nil, newIdentifier()] as [String?] {
                let token = try await tokens.sign(Claims(sub: user.id, scope: .user, iat: now + 1, exp: now + 3600, jti: id))
                #expect(try await world.call("GET", "/auth/me", token: token).status == 401)
            }
            // Another user's sign-in is not listed.
            _ = try await world.signup("eve@example.org")
            let eve = try #require(try await world.documents.user(email: "eve@example.org"))
            let theirs = try #require(try await world.documents.signIns(userId: eve.id).first)
            let token = try await tokens.sign(Claims(sub: user.id, scope: .user, iat: now + 1, exp: now + 3600, jti: theirs.id))
            #expect(try await world.call("GET", "/auth/me", token: token).status == 401)
        }
    }

    @Test func `a client that asks endlessly has to wait, and no other does`() async throws {
        try await withServer(change: { $0.requestLimit = (perMinute: 1, burst: 5) }) { world in
            let user = try await world.signup()
            let other = try await world.signup("bob@example.org")
            for _ in 0..<5 { #expect(try await world.call("GET", "/auth/tokens", token: user).status == 200) }
            let last = try await world.call("GET", "/auth/tokens", token: user)
            #expect(last.status == 429 && last.headers["retry-after"] != nil && last.detail.contains("too many requests"), "\(last)")
            #expect(try await world.call("GET", "/auth/tokens", token: other).status == 200)
        }
    }
}
