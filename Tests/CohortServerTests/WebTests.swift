import AsyncHTTPClient
import CohortAPI
import CohortCore
import Crypto
import FoundationEssentials
import NIOCore
import NIOHTTP1
import Testing

@testable import CohortServer

/// Pages, as a browser asks for them: cookies, forms, and who may not send them.
@Suite struct WebTests {
    /// A browser with its cookies.
    private final class Browser {
        let world: ServerWorld
        var cookies: [String: String] = [:]
        /// Everything that was set, with its attributes.
        var set: [String] = []

        init(_ world: ServerWorld) { self.world = world }

        /// Of the page that was loaded last.
        var csrf = ""

        func ask(
            _ method: String, _ path: String, _ body: String? = nil, type: String = "application/x-www-form-urlencoded",
            headers: [(String, String)] = []
        ) async throws -> (status: Int, headers: HTTPHeaders, body: String) {
            var request = HTTPClientRequest(url: world.url + path)
            request.method = .RAW(value: method)
            request.headers.add(contentsOf: headers)
            let jar = cookies.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "; ")
            if !jar.isEmpty { request.headers.add(name: "Cookie", value: jar) }
            if let body {
                request.headers.add(name: "Content-Type", value: type)
                request.body = .bytes(ByteBuffer(string: body))
            }
            let response = try await world.http.execute(request, timeout: .seconds(120))
            for cookie in response.headers["Set-Cookie"] {
                set.append(cookie)
                let pair = cookie.prefix { $0 != ";" }.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
                    String.init)
                cookies[pair[0]] = pair[1].isEmpty ? nil : pair[1]
            }
            let text = String(buffer: try await response.body.collect(upTo: 10 << 20))
            if let token = text.firstMatch(of: /name="csrf-token" content="([^"]+)"/) { csrf = String(token.1) }
            return (Int(response.status.code), response.headers, text)
        }

        func signUp(_ email: String = "ada@example.org") async throws {
            _ = try await ask("GET", "/app/signin")
            let answer = try await ask("POST", "/app/signup", "csrf=\(csrf)&email=\(email)&password=correct+horse&name=Ada+%3Cb%3E")
            #expect(answer.status == 303 && answer.headers.first(name: "Location") == "/", "\(answer.body)")
            _ = try await ask("GET", "/")
        }
    }

    @Test func `a person signs up, sees the dashboard, signs out, and signs in again`() async throws {
        try await withServer { world in
            let browser = Browser(world)
            let away = try await browser.ask("GET", "/")
            #expect(away.status == 303 && away.headers.first(name: "Location") == "/app/signin")
            try await browser.signUp()
            let session = try #require(browser.set.last { $0.hasPrefix("cohort_session=") })
            #expect(session.contains("; HttpOnly") && session.contains("; SameSite=Lax") && !session.contains("; Secure"))
            let page = try await browser.ask("GET", "/")
            #expect(page.status == 200 && page.headers.first(name: "Content-Type") == "text/html; charset=utf-8")
            #expect(page.body.contains("Ada &lt;b&gt;") && !page.body.contains("Ada <b>"), "a name is text")
            let policy = try #require(page.headers.first(name: "Content-Security-Policy"))
            #expect(
                policy.hasPrefix("default-src 'none'") && !policy.contains("unsafe-inline") && policy.contains("frame-ancestors 'none'"))
            #expect(page.body.contains("cohort peer --server \(world.url) --token TOKEN"))
            for asset in page.body.matches(of: /(?:href|src)="(\/assets\/[^"]+)"/).map({ String($0.1) }) {
                let file = try await browser.ask("GET", asset)
                #expect(file.status == 200 && file.headers.first(name: "Cache-Control")?.contains("immutable") == true, "\(asset)")
            }
            let out = try await browser.ask("POST", "/app/signout", "csrf=\(browser.csrf)")
            #expect(out.status == 303 && browser.cookies["cohort_session"] == nil)
            #expect(try await browser.ask("GET", "/auth/me").status == 401)
            let token = session.prefix { $0 != ";" }.dropFirst("cohort_session=".count)
            #expect(try await world.call("GET", "/auth/me", token: String(token)).status == 401, "signing out ends the sign-in itself")
            _ = try await browser.ask("GET", "/app/signin")
            let wrong = try await browser.ask("POST", "/app/signin", "csrf=\(browser.csrf)&email=ada@example.org&password=wrong+horse")
            #expect(
                wrong.status == 401 && wrong.body.contains("the e-mail or the password is wrong") && wrong.body.contains("ada@example.org"))
            let right = try await browser.ask(
                "POST", "/app/signin", "csrf=\(browser.csrf)&email=ada@example.org&password=correct+horse&next=//evil.example.org")
            #expect(right.status == 303 && right.headers.first(name: "Location") == "/", "no redirect to another site")
            #expect(try await browser.ask("GET", "/auth/me").status == 200, "the API takes the cookie")
        }
    }

    @Test func `what another site sends in a person's name is refused`() async throws {
        try await withServer { world in
            let browser = Browser(world)
            try await browser.signUp()
            let body = #"{"name":"theirs"}"#
            for (headers, status) in [
                ([], 403), ([("X-CSRF-Token", "")], 403), ([("X-CSRF-Token", newIdentifier())], 403),
                ([("X-CSRF-Token", browser.csrf), ("Origin", "https://evil.example.org")], 403),
                ([("X-CSRF-Token", browser.csrf), ("Origin", "null")], 403),
                ([("X-CSRF-Token", browser.csrf), ("Origin", world.url)], 201), ([("X-CSRF-Token", browser.csrf)], 201),
            ] as [([(String, String)], Int)] {
                let answer = try await browser.ask("POST", "/auth/tokens", body, type: "application/json", headers: headers)
                #expect(answer.status == status, "\(headers): \(answer.body)")
            }
            for path in ["/app/signout", "/app/signin", "/app/signup"] {
                let answer = try await browser.ask("POST", path, "email=x&password=y")
                #expect(answer.status == 403, "\(path): \(answer.status)")
            }
            // Without the cookie that goes with it, the token is worth nothing; nor is a peer's route opened by a person's cookie.
            let other = Browser(world)
            try await other.signUp("bob@example.org")
            for csrf in [other.csrf, browser.csrf.uppercased(), browser.cookies["cohort_session"] ?? ""] {
                let answer = try await browser.ask(
                    "POST", "/auth/tokens", body, type: "application/json", headers: [("X-CSRF-Token", csrf)])
                #expect(answer.status == 403, "another sign-in's token, or none")
            }
            // A cookie that another site has set for the host is of no use either.
            browser.cookies["cohort_visitor"] = newIdentifier()
            #expect(
                try await browser.ask("POST", "/auth/tokens", body, type: "application/json", headers: [("X-CSRF-Token", other.csrf)])
                    .status == 403)
            #expect(try await browser.ask("POST", "/peers", "{}", type: "application/json").status == 401)
        }
    }

    @Test func `the look at a CSV says what training would take its columns for, or what is wrong with it`() async throws {
        try await withServer { world in
            let browser = Browser(world)
            try await browser.signUp()
            func inspect(_ query: String, _ csv: String) async throws -> (status: Int, headers: HTTPHeaders, body: String) {
                try await browser.ask("POST", "/app/look?\(query)", csv, type: "text/csv", headers: [("X-CSRF-Token", browser.csrf)])
            }
            struct Look: Decodable {
                struct Column: Decodable {
                    var name: String
                    var kind: String
                    var missing: Int
                    var counts: [Int]
                    var least: Double?
                    var examples: [String]?
                }
                var rows: Int
                var target: String
                var task: String
                var columns: [Column]
            }
            let rows = (0..<60).map {
                "\($0 % 7),\($0 % 3 == 0 ? "red" : "blue"),\($0 == 5 ? "" : "\($0 % 5).5"),\($0 % 2 == 0 ? "a" : "b")"
            }
            let csv = "size,colour,weight,kind\n" + rows.joined(separator: "\n") + "\n"
            let whole = try CohortJSON.decode(Look.self, from: try await inspect("whole=true", csv).body.utf8)
            #expect(whole.rows == 60 && whole.target == "kind" && whole.task == "classification")
            #expect(whole.columns.map(\.kind) == ["numeric", "categorical", "numeric", "target"])
            #expect(whole.columns[0].counts.reduce(0, +) == 60 && whole.columns[0].counts.count == 12 && whole.columns[0].least == 0)
            #expect(whole.columns[1].examples == ["blue", "red"] && whole.columns[1].counts == [40, 20])
            #expect(whole.columns[2].missing == 1 && whole.columns[2].counts.reduce(0, +) == 59)
            // A last line that was cut is left out; another target.
            let cut = try CohortJSON.decode(Look.self, from: try await inspect("whole=false&target=weight", csv + "3,re").body.utf8)
            #expect(cut.rows == 60 && cut.target == "weight" && cut.task == "regression" && cut.columns[2].kind == "target")
            for (query, csv, sentence) in [
                ("whole=true", "", "the file is empty"), ("whole=true", "a,b\n1,\"x\n", "line 2"),
                ("whole=true&target=no", csv, "no column 'no'"),
                ("whole=true&task=magic", csv, "task is 'magic'"), ("whole=true", "PK\u{3}\u{4}", ""),
            ] {
                let answer = try await inspect(query, csv)
                #expect(answer.status == 400 && answer.body.contains(sentence), "\(query): \(answer.body)")
            }
            // A column that cannot be predicted leaves the choice of another.
            struct Refused: Decodable {
                var target: String?
                var problem: String
                var columns: [Look.Column]
            }
            let shop = "visits,bought,customer\n" + (0..<60).map { "\($0 % 7),\($0 % 2 == 0 ? "yes" : "no"),c\($0)\n" }.joined()
            for query in ["whole=true", "whole=true&target=customer"] {
                let refused = try CohortJSON.decode(Refused.self, from: try await inspect(query, shop).body.utf8)
                #expect(refused.problem.contains("60 different values"), "\(refused.problem)")
                #expect(refused.target == (query.contains("target") ? "customer" : nil))
                #expect(refused.columns.map(\.name) == ["visits", "bought", "customer"])
                #expect(refused.columns.map(\.kind) == ["numeric", "categorical", "ignored"])
            }
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: world.folder).allSatisfy { !$0.hasPrefix("look-") }, "nothing is left")
            let unknown = Browser(world)
            #expect(try await unknown.ask("POST", "/app/look", csv, type: "text/csv").status == 401)
        }
    }

    @Test func `a session's page is its owner's alone`() async throws {
        try await withServer { world in
            let browser = Browser(world)
            try await browser.signUp()
            let token = try #require(browser.cookies["cohort_session"])
            _ = try await world.register("one", try await world.joinToken(token))
            let started = try await world.start([("peers", "1"), ("name", "<script>alert(1)</script>")], token: token)
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            let page = try await browser.ask("GET", "/app/session/\(id)")
            #expect(
                page.status == 200 && page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !page.body.contains("<script>alert"))
            #expect(page.body.utf8.count < 60_000)
            let other = Browser(world)
            try await other.signUp("bob@example.org")
            #expect(try await other.ask("GET", "/app/session/\(id)").status == 404)
            let unknown = Browser(world)
            let answer = try await unknown.ask("GET", "/app/session/\(id)")
            #expect(answer.status == 303 && answer.headers.first(name: "Location") == "/app/signin?next=/app/session/\(id)")
            for path in ["/app/new", "/app/account", "/docs"] {
                let page = try await browser.ask("GET", path)
                #expect(page.status == 200 && page.body.hasPrefix("<!DOCTYPE html>") && !page.body.contains("{{"), "\(path)")
            }
        }
    }
}
