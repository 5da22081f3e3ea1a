import CohortAPI
import CohortCore
import CohortSession
import FoundationEssentials
import SQLiteDocuments
import Testing

@testable import CohortServer

/// Who may make an account, and how many machines a token brings.
@Suite struct ComingInTests {
    private func signUp(_ world: ServerWorld, email: String, invitation: String? = nil) async throws -> ServerWorld.Answer {
        let code = invitation.map { #","invitation":"\#($0)""# } ?? ""
        return try await world.call("POST", "/auth/signup", #"{"email":"\#(email)","password":"correct horse"\#(code)}"#)
    }

    @Test func `an account takes an invitation where the server says so`() async throws {
        let rule = try SignUpRule.invited(by: ["K7QM2-XW9PD", "other code 42"])
        try await withServer(change: { $0.signUp = rule }) { world in
            for wrong in [nil, "", "K7QM2-XW9PE", "K7QM2", "K7QM2XW9PDX", String(repeating: "A", count: 5_000)] {
                let answer = try await signUp(world, email: "ada@example.org", invitation: wrong)
                #expect(answer.status == 403 && answer.body.contains(#""code":"invitation_required""#), "\(answer)")
            }
            #expect(try await world.documents.user(email: "ada@example.org") == nil)
            #expect(try await signUp(world, email: "ada@example.org", invitation: "k7qm2 xw9pd").status == 201)
            #expect(try await signUp(world, email: "bob@example.org", invitation: "OTHERCODE42").status == 201)
            #expect(try await world.call("GET", "/app/signin").body.contains(#"name="invitation""#))
        }
        #expect(throws: CohortError.self) { _ = try SignUpRule.invited(by: ["short"]) }
        let code = SignUpRule.newCode()
        #expect(code.count == 11 && code != SignUpRule.newCode())
        _ = try SignUpRule.invited(by: [code])
    }

    @Test func `a closed server makes no accounts, and those there are sign in`() async throws {
        try await withServer(change: { $0.signUp = .closed }) { world in
            let answer = try await signUp(world, email: "ada@example.org", invitation: "anything")
            #expect(answer.status == 403 && answer.detail == "this server takes no new accounts: ask its operator")
            let page = try await world.call("GET", "/app/signin").body
            #expect(!page.contains("/app/signup") && page.contains("takes no new accounts"))
        }
    }

    @Test func `a join token brings so many machines and no more`() async throws {
        try await withServer(change: { ($0.machinesOfToken, $0.registrationsPerMinute) = (3, 1) }) { world in
            let user = try await world.signup()
            let join = try await world.joinToken(user)
            var first: API.Registered?
            for _ in 0..<3 { first = try await world.register("lab", join) }
            let one = try #require(first)
            let refused = try await world.call("POST", "/peers", ServerWorld.registration("lab"), token: join)
            #expect(refused.status == 409 && refused.detail.contains("this join token has 3 machines online"), "\(refused)")
            // One that comes back is not one more.
            let back = ServerWorld.registration("lab").dropLast() + #","id":"\#(one.peerId)","credential":"\#(one.credential)"}"#
            #expect(try await world.call("POST", "/peers", String(back), token: join).status == 201)
            let another = try await world.joinToken(user)
            #expect(try await world.call("POST", "/peers", ServerWorld.registration("lab"), token: another).status == 201)
            try await world.documents.setOffline(peerId: one.peerId, registration: nil, hasLeft: true)
            // Twice as many may register in a burst: one that comes and goes all the time has to wait.
            _ = try await world.register("lab", join)
            for peer in try await world.documents.peers() {
                try await world.documents.setOffline(peerId: peer.id, registration: nil, hasLeft: true)
            }
            _ = try await world.register("lab", join)
            let flooding = try await world.call("POST", "/peers", ServerWorld.registration("lab"), token: join)
            #expect(flooding.status == 429 && flooding.headers["retry-after"] != nil, "\(flooding)")
        }
    }

    @Test func `cookies and headers are as the way to the server allows`() async throws {
        let (web, secure, below) = (
            WebSession(key: [1], isSecure: false, basePath: ""), WebSession(key: [1], isSecure: true, basePath: ""),
            WebSession(key: [1], isSecure: true, basePath: "/cohort")
        )
        #expect(web.signingIn("t", seconds: 5) == "cohort_session=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=5")
        #expect(secure.signingIn("t", seconds: 5) == "__Host-cohort_session=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=5; Secure")
        #expect(below.signingIn("t", seconds: 5) == "__Secure-cohort_session=t; Path=/cohort; HttpOnly; SameSite=Lax; Max-Age=5; Secure")
        try await withServer { world in
            let docs = try await world.call("GET", "/docs")
            #expect(docs.headers["strict-transport-security"] == nil)
        }
        try await withServer(change: { $0.sendsHSTS = true }) { world in
            let docs = try await world.call("GET", "/docs")
            #expect(docs.headers["strict-transport-security"] == "max-age=31536000")
            let missing = try await world.call("GET", "/nowhere")
            #expect(missing.headers["strict-transport-security"] == "max-age=31536000")
        }
    }

    @Test func `below a base path, links lead below it, whether or not the proxy takes it away`() async throws {
        try await withServer(change: { $0.basePath = "/cohort" }) { world in
            for prefix in ["", "/cohort"] {
                let away = try await world.call("GET", "\(prefix)/")
                #expect(away.status == 303 && away.headers["location"] == "/cohort/app/signin")
                let page = try await world.call("GET", "\(prefix)/app/signin?next=/app/new").body
                let links = page.matches(of: /(?:href|src|action)="([^"#]*)"/).map { String($0.1) }.filter { !$0.hasPrefix("data:") }
                #expect(!links.isEmpty && links.allSatisfy { $0.hasPrefix("/cohort/") }, "\(links)")
                for link in links where link.contains("/assets/") {
                    #expect(try await world.call("GET", link).status == 200)
                    #expect(try await world.call("GET", String(link.dropFirst("/cohort".count))).status == 200)
                }
                #expect(try await world.call("GET", "\(prefix)/health/live").status == 200)
            }
            #expect(try await world.call("GET", "/cohort/?").status == 303)
            #expect(try await world.call("GET", "/cohorts").status == 404)
        }
    }
}
