import CohortCore
import FoundationEssentials
import SQLiteDocuments
import Testing

@testable import CohortServer

@Suite struct AccountTests {
    @Test func `a changed password ends the sign-ins from before it, and not the new one`() async throws {
        try await withServer { world in
            let old = try await world.signup()
            let wrong = try await world.call(
                "POST", "/auth/password", #"{"password":"wrong horse","new_password":"better horse"}"#, token: old)
            #expect(wrong.status == 403 && wrong.detail.contains("nothing was changed"), "\(wrong)")
            let short = try await world.call(
                "POST", "/auth/password", #"{"password":"correct horse","new_password":"abc"}"#, token: old)
            #expect(short.status == 400, "\(short)")
            #expect(try await world.call("GET", "/auth/me", token: old).status == 200)
            let changed = try await world.call(
                "POST", "/auth/password", #"{"password":"correct horse","new_password":"better horse"}"#, token: old)
            #expect(changed.status == 200, "\(changed)")
            let new = try CohortJSON.decode(API.AccessToken.self, from: changed.body.utf8).accessToken
            #expect(try await world.call("GET", "/auth/me", token: new).status == 200)
            let ended = try await world.call("GET", "/auth/me", token: old)
            #expect(ended.status == 401 && ended.detail == "the password was changed since: sign in again", "\(ended)")
            func signIn(_ password: String) async throws -> Int {
                try await world.call("POST", "/auth/signin", #"{"email":"ada@example.org","password":"\#(password)"}"#).status
            }
            #expect(try await signIn("correct horse") == 401)
            #expect(try await signIn("better horse") == 200)
        }
    }

    @Test func `machines of one name are told apart, and keep their numbers`() async throws {
        try await withServer { world in
            let join = try await world.joinToken(try await world.signup())
            let peers = try await withThrowingTaskGroup(of: API.Registered.self) { group in
                for _ in 0..<5 { group.addTask { try await world.register("vm", join) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            let names = try await world.documents.peers().map(\.name)
            #expect(names == ["vm", "vm-2", "vm-3", "vm-4", "vm-5"])
            let third = try #require(try await world.documents.peers().first { $0.name == "vm-3" })
            let credential = try #require(peers.first { $0.peerId == third.id }?.credential)
            let again = try await world.call(
                "POST", "/peers",
                ServerWorld.registration("vm").replacing(
                    "{\"name\"", with: #"{"id":"\#(third.id)","credential":"\#(credential)","name""#, maxReplacements: 1), token: join)
            #expect(try CohortJSON.decode(API.Registered.self, from: again.body.utf8).name == "vm-3", "\(again)")
            #expect(try await world.register("other", join).name == "other")
        }
    }
}
