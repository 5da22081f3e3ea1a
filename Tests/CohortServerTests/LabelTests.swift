import AsyncHTTPClient
import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import NIOCore
import NIOHTTP1
import SQLiteDocuments
import Synchronization
import TestSupport
import Testing

@testable import CohortServer

/// Notes, tags and links of sessions, and streams of the pool.
@Suite struct LabelTests {
    /// A session of `user` that has completed.
    private static func completed(_ world: ServerWorld, _ user: String) async throws -> Session {
        _ = try await world.register("a", try await world.joinToken(user))
        let started = try await world.start([("peers", "1"), ("name", "first")], token: user)
        let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
        var session = try #require(try await world.documents.session(id: id))
        session.status = .completed
        return try await world.documents.update(session)
    }

    @Test func `note and tags are their owner's, are checked, and stand in lists`() async throws {
        try await withServer { world in
            let (ada, ben) = (try await world.signup(), try await world.signup("ben@example.org"))
            let path = "/sessions/\(try await Self.completed(world, ada).id)"
            let changed = try await world.call("PATCH", path, #"{"note":"as before","tags":[" one ","two","one"]}"#, token: ada)
            #expect(changed.status == 200 && changed.body.contains(#""tags":["one","two"]"#), "\(changed.body)")
            // What is not named stays.
            #expect(try await world.call("PATCH", path, #"{"tags":["three"]}"#, token: ada).body.contains("as before"))
            for body in [path, "/sessions"] {
                let shown = try await world.call("GET", body, token: ada).body
                #expect(shown.contains("as before") && shown.contains("three"), "\(shown)")
            }
            let long = String(repeating: "x", count: 2_001)
            for (body, sentence) in [
                (#"{"tags":["a,b"]}"#, "a tag has 1 to 30 characters"), (#"{"tags":[""]}"#, "a tag has 1 to 30 characters"),
                (#"{"tags":["a\nb"]}"#, "a tag has 1 to 30 characters"),
                (#"{"note":"\#(long)"}"#, "2001 characters"), (#"{"colour":"red"}"#, "colour"),
                (#"{"tags":["1","2","3","4","5","6","7","8","9","10","11"]}"#, "at most 10"),
            ] {
                let answer = try await world.call("PATCH", path, body, token: ada)
                #expect(answer.status == 400 && answer.body.contains(sentence), "\(body): \(answer.body)")
            }
            #expect(try await world.call("PATCH", path, #"{"tags":[]}"#, token: ben).status == 404)
        }
    }

    @Test func `a link opens until it expires or is revoked, and its secret is stored nowhere`() async throws {
        let clock = LaterTime()
        try await withServer(time: clock) { world in
            let (ada, ben) = (try await world.signup(), try await world.signup("ben@example.org"))
            let session = try await Self.completed(world, ada)
            let path = "/sessions/\(session.id)/links"
            func make(_ body: String = "{}") async throws -> API.Link {
                try CohortJSON.decode(API.Link.self, from: try await world.call("POST", path, body, token: ada).body.utf8)
            }
            let link = try await make()
            let address = try #require(link.path)
            let secret = try #require(address.split(separator: "/").last)
            #expect(secret.count == 22 && abs(link.expiresAt.timeIntervalSince(link.createdAt) - 30 * 86_400) < 1)
            let stored = String(decoding: try CohortJSON.encode(try await world.documents.session(id: session.id)), as: UTF8.self)
            #expect(!stored.contains(secret))
            #expect(try await world.call("GET", path, token: ada).body.contains(link.id))
            #expect(try await !world.call("GET", path, token: ada).body.contains(secret))

            #expect(try await Self.status(world, address) == 200)
            #expect(try await Self.status(world, "\(address)/data") == 200)
            #expect(try await Self.status(world, address.dropLast() + (address.hasSuffix("A") ? "B" : "A")) == 404)
            #expect(try await Self.status(world, "/shared/\(newIdentifier())/\(secret)") == 404)
            let row = #"{"rows":[{"x":1}]}"#
            // No model is there, and this link would not allow it.
            #expect(try await [403, 404].contains(Self.status(world, "\(address)/predict", body: row)))

            // Another person can neither make, list nor revoke.
            for (method, path) in [("GET", path), ("POST", path), ("DELETE", "\(path)/\(link.id)")] {
                #expect(try await world.call(method, path, method == "POST" ? "{}" : nil, token: ben).status == 404)
            }
            #expect(try await world.call("POST", path, #"{"expires_in":1}"#, token: ada).status == 400)
            #expect(try await world.call("DELETE", "\(path)/\(link.id)", token: ada).status == 204)
            #expect(try await Self.status(world, address) == 404)

            let short = try await make(#"{"expires_in":60}"#)
            let other = try #require(short.path)
            #expect(try await Self.status(world, other) == 200)
            clock.advance(61)
            #expect(try await Self.status(world, other) == 404)
            // Links that have expired take no room.
            for _ in 0..<SessionLabels.maxLinks { _ = try await make() }
            #expect(try await world.call("POST", path, "{}", token: ada).status == 409)
        }
    }

    /// The system's time, moved on by the test.
    private final class LaterTime: TimeSource {
        private let system = SystemTime()
        private let seconds = Mutex(0.0)

        var date: Date { system.date.addingTimeInterval(seconds.withLock { $0 }) }
        var monotonic: Double { system.monotonic + seconds.withLock { $0 } }
        func sleep(seconds: Double) async throws { try await system.sleep(seconds: seconds) }
        func advance(_ seconds: Double) { self.seconds.withLock { $0 += seconds } }
    }

    private static func status(_ world: ServerWorld, _ path: some StringProtocol, body: String? = nil) async throws -> UInt {
        var request = HTTPClientRequest(url: world.url + path)
        if let body {
            request.method = .POST
            request.headers.add(name: "Content-Type", value: "application/json")
            request.body = .bytes(ByteBuffer(string: body))
        }
        let answer = try await world.http.execute(request, timeout: .seconds(60))
        if !path.hasSuffix("/predict") {
            #expect(answer.headers.first(name: "Referrer-Policy") == "no-referrer" || answer.status == .notFound)
        }
        _ = try await answer.body.collect(upTo: 1 << 20)
        return answer.status.code
    }

    @Test func `the pool's stream has all peers at first, then those that join, are locked or leave`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            let token = try await world.joinToken(user)
            _ = try await world.register("a", token)
            for path in ["/peers/events", "/events?peers=true"] {
                var request = HTTPClientRequest(url: world.url + path)
                request.headers.add(name: "Authorization", value: "Bearer \(user)")
                let answer = try await world.http.execute(request, timeout: .seconds(60))
                #expect(answer.status == .ok)
                var changes = Changes(answer.body.makeAsyncIterator())
                let first = try await changes.next()
                #expect(first.all == true && first.changed.map(\.name).first == "a")
                let b = try await world.register("b", token)
                let second = try await changes.next()
                #expect(second.all == nil && second.changed.map(\.name) == ["b"] && second.changed.map(\.mine) == [true])
                let left = try await world.call("DELETE", "/peers/\(b.peerId)?registration=1", token: b.credential)
                #expect(left.status == 204)
                #expect(try await changes.next().changed.map(\.status) == [.offline])
                try await world.documents.deletePeer(id: b.peerId)
                let c = try await world.register("c", token)
                let last = try await changes.next()
                #expect(last.gone == [b.peerId] && last.changed.map(\.id) == [c.peerId])
                _ = try await world.call("DELETE", "/peers/\(c.peerId)?registration=1", token: c.credential)
                #expect(try await changes.next().changed.map(\.status) == [.offline])
                try await world.documents.deletePeer(id: c.peerId)
            }
            #expect(try await world.call("GET", "/events?sessions=unknown", token: user).status == 404)
            #expect(try await world.call("GET", "/events?peers=perhaps", token: user).status == 400)
        }
    }

    /// The events of a stream, one after the other.
    private struct Changes {
        private var chunks: HTTPClientResponse.Body.AsyncIterator
        private var text = ""

        init(_ chunks: HTTPClientResponse.Body.AsyncIterator) { self.chunks = chunks }

        mutating func next() async throws -> API.PeersChange {
            while true {
                while let end = text.firstRange(of: "\n\n") {
                    let event = text[..<end.lowerBound]
                    text = String(text[end.upperBound...])
                    guard let data = event.split(separator: "\n").first(where: { $0.hasPrefix("data: ") }) else { continue }
                    return try CohortJSON.decode(API.PeersChange.self, from: data.dropFirst(6).utf8)
                }
                let chunk = try #require(try await chunks.next())
                text += String(buffer: chunk)
            }
        }
    }
}

@Suite struct LogOfRequests {
    @Test func `the secret of a link that shows a session is not in a log`() {
        let path = SharedPage.path(sessionId: "s1", secret: "topsecret")
        #expect(path.withoutSecret == "/shared/s1/…" && "/cohort\(path)/data".withoutSecret == "/cohort/shared/s1/…/data")
        #expect("/sessions/shared".withoutSecret == "/sessions/shared" && "/".withoutSecret == "/")
    }
}
