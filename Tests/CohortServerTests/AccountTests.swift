import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import SQLiteDocuments
import TestSupport
import Testing

@testable import CohortServer

@Suite struct AccountTests {
    @Test func `a changed password ends the sign-ins from before it, and not the new one`() async throws {
        try await withServer { world in
            let old = try await world.signup()
            let wrong = try await world.call(
                "POST", "/auth/password", #"{"password":"wrong horse","new_password":"better horse"}"#, token: old)
            #expect(wrong.status == 403 && wrong.detail.contains("the current password is incorrect"), "\(wrong)")
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

    @Test func `machines of one name get different numbers, and keep them`() async throws {
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

    @Test func `of a hundred guesses at once ten are tried, and no other user has to wait`() async throws {
        try await withServer(change: { $0.signInDelay = .seconds(3_600) }) { world in
            _ = try await world.signup()
            _ = try await world.signup("eve@example.org")
            @Sendable func signIn(_ email: String, _ password: String) async throws -> ServerWorld.Answer {
                try await world.call("POST", "/auth/signin", #"{"email":"\#(email)","password":"\#(password)"}"#)
            }
            let answers = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<100 { group.addTask { try await signIn("ada@example.org", "guess \(number) of many").status } }
                return try await group.reduce(into: [Int: Int]()) { $0[$1, default: 0] += 1 }
            }
            #expect(answers == [401: 10, 429: 90], "\(answers)")
            let locked = try await signIn("ada@example.org", "correct horse")
            #expect(locked.status == 429 && locked.detail.contains("too many wrong passwords: try again in"), "\(locked)")
            #expect(locked.headers["retry-after"].flatMap(Int.init).map { $0 >= 1 && $0 <= 3_600 } == true)
            #expect(try await signIn("eve@example.org", "correct horse").status == 200, "another account of the same address")
        }
    }

    @Test func `a deleted account leaves nothing, and its old tokens are worth nothing`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            let other = try await world.signup("eve@example.org")
            let join = try await world.joinToken(user)
            let peer = try await world.register("p", join)
            let started = try await world.start([("peers", "1"), ("seed", "4")], token: user)
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            let wrong = try await world.call("DELETE", "/auth/me", #"{"password":"wrong horse"}"#, token: user)
            #expect(wrong.status == 403, "\(wrong)")
            #expect(try await world.call("DELETE", "/auth/me", "{}", token: user).status == 400)
            #expect(try await world.documents.session(id: id) != nil)
            // The session is cancelled by its runner: here by the test.
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await eventually("the session is to be cancelled") {
                        try await world.documents.session(id: id)?.cancelRequested == true
                    }
                    var session = try #require(await world.documents.session(id: id))
                    session.status = .cancelled
                    _ = try await world.documents.update(session)
                }
                let deleted = try await world.call("DELETE", "/auth/me", #"{"password":"correct horse"}"#, token: user)
                #expect(deleted.status == 204, "\(deleted)")
                try await group.waitForAll()
            }
            #expect(try await world.stored.isEmpty)
            #expect(try await world.documents.peers().isEmpty)
            #expect(try await world.documents.sessionCounts().isEmpty)
            #expect(try await world.call("GET", "/auth/me", token: user).status == 401)
            let start = try await world.start([("peers", "1")], token: user)
            #expect(start.status == 404 && start.detail.contains("does not exist any more"), "\(start)")
            #expect(try await world.call("POST", "/peers", ServerWorld.registration("q"), token: join).status == 401)
            let beat = try await world.call(
                "POST", "/peers/\(peer.peerId)/heartbeat", #"{"registration":\#(peer.registration)}"#, token: peer.credential)
            #expect(beat.status == 401 || beat.status == 409, "\(beat)")
            #expect(try await world.call("GET", "/auth/me", token: other).status == 200)
            #expect(try await world.signup().isEmpty == false, "the address is free again")
        }
    }

    @Test func `an expired join token ends its machines`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            let made = try await world.call("POST", "/auth/tokens", #"{"expires_in":60}"#, token: user)
            let token = try CohortJSON.decode(API.Token.self, from: made.body.utf8)
            // As if the minute had passed.
            let record = try #require(try await world.documents.joinToken(id: token.id))
            try await world.documents.deleteUser(id: record.userId)
            var expired = record
            expired.expiresAt = record.createdAt.addingTimeInterval(-1)
            try await world.documents.insert(expired)
            let authenticator = Authenticator(
                tokens: try await Tokens(key: [UInt8](repeating: 1, count: 32)), documents: world.documents, time: SystemTime(),
                web: WebSession(key: [UInt8](repeating: 1, count: 32), isSecure: false, basePath: ""),
                requests: RateLimiter(perMinute: 1, burst: 1))
            let error = await #expect(throws: CohortError.self) { try await authenticator.checkGood(joinToken: record.id) }
            #expect(error?.code == .unauthenticated && error?.message.contains("expired") == true)
        }
    }

    /// The flow as the design has always drawn it, by HTTP alone.
    @Test func `the original flow answers the original statuses`() async throws {
        try await withServer { world in
            let account = #"{"email":"ada@example.org","password":"correct horse","name":"Ada"}"#
            let signup = try await world.call("POST", "/auth/signup", account)
            #expect(signup.status == 201)
            let user = try CohortJSON.decode(API.AccessToken.self, from: signup.body.utf8).accessToken
            #expect(try await world.call("POST", "/auth/signup", account).status == 409)
            let wrong = try await world.call("POST", "/auth/signin", #"{"email":"ada@example.org","password":"wrong horse"}"#)
            #expect(wrong.status == 401)
            #expect(
                try await world.call("POST", "/auth/signin", #"{"email":"ada@example.org","password":"correct horse"}"#).status == 200)
            let few = try await world.start([("peers", "2")], token: user)
            #expect(few.status == 400 && few.detail.contains("2 peers were asked for and 0 are online"), "\(few)")
            #expect(few.body.contains(#""code":"not_enough_peers""#) && few.headers["retry-after"] != nil)
            let check = try await world.call("POST", "/sessions/check", #"{"peers":2}"#, token: user)
            #expect(check.status == 400 && check.body.contains(#""code":"not_enough_peers""#))
            let join = try await world.joinToken(user)
            for name in ["one", "two"] { _ = try await world.register(name, join) }
            let started = try await world.start([("peers", "2")], token: user)
            #expect(started.status == 201, "\(started)")
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            func status() async throws -> String {
                let answer = try await world.call("GET", "/sessions/training-status?session_id=\(id)", token: user)
                #expect(answer.status == 200)
                return try CohortJSON.decode(API.TrainingStatus.self, from: answer.body.utf8).status.rawValue
            }
            #expect(try await status() == "PENDING")
            for next in [SessionStatus.running, .completed] {
                var session = try #require(await world.documents.session(id: id))
                session.status = next
                _ = try await world.documents.update(session)
                #expect(try await status() == next.rawValue)
            }
        }
    }
}
