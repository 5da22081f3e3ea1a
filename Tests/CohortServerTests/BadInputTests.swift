import CohortAPI
import CohortCore
import CohortSession
import CohortSystem
import DirectoryObjects
import FoundationEssentials
import NIOCore
import NIOPosix
import SQLiteDocuments
import TestSupport
import Testing

@testable import CohortServer

@Suite struct BadInput {
    @Test func `accounts: every refusal says what was wrong`() async throws {
        try await withServer { world in
            for (body, status, sentence) in [
                (#"{"email":"ada","password":"correct horse"}"#, 400, "not an e-mail address"),
                (#"{"email":"\#(String(repeating: "a", count: 300))@x.org","password":"correct horse"}"#, 400, "at most 254"),
                (#"{"email":"a@x.org","password":"short"}"#, 400, "at least 8"),
                (#"{"email":"a@x.org","password":"\#(String(repeating: "p", count: 73))"}"#, 400, "72"),
                (#"{"email":"a@x.org"}"#, 400, "'password' is missing"),
                (#"{"email":5,"password":"correct horse"}"#, 400, "'email' has the wrong type"),
                (#"{"email":"a@x.org","password":"correct horse","colour":"red"}"#, 400, "there is no field 'colour'"),
                ("", 400, "empty"), ("[1]", 400, ""), ("{", 400, "not valid JSON"),
                (String(repeating: "[", count: 10_000), 400, "JSON"),
                ("\"" + String(repeating: "x", count: 1 << 21) + "\"", 413, "too large"),
            ] {
                let answer = try await world.call("POST", "/auth/signup", body)
                #expect(
                    answer.status == status && answer.detail.contains(sentence), "\(body.prefix(80)): \(answer.status) \(answer.detail)")
                #expect(answer.headers["content-type"] == "application/problem+json")
            }
            _ = try await world.signup()
            let twice = try await world.call("POST", "/auth/signup", #"{"email":"ADA@example.org","password":"correct horse"}"#)
            #expect(twice.status == 409, "\(twice)")
            for email in ["ada@example.org", "unknown@example.org"] {
                let wrong = try await world.call("POST", "/auth/signin", #"{"email":"\#(email)","password":"wrong horse"}"#)
                #expect(wrong.status == 401 && wrong.detail == "the e-mail or the password is wrong")
            }
        }
    }

    @Test func `tokens: expired, forged, unsigned, of the wrong kind, revoked`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            let parts = user.split(separator: ".").map(String.init)
            func base64(_ text: String) -> String {
                Data(text.utf8).base64EncodedString().replacing("=", with: "").replacing("+", with: "-").replacing("/", with: "_")
            }
            let key = try KeyFile.key(at: "\(world.folder)/jwt.key", consequence: "")
            let old = try await Tokens(key: key).sign(Claims(sub: "x", scope: .user, iat: 0, exp: 10, jti: "s"))
            let strange = try await Tokens(key: [UInt8](repeating: 1, count: 32)).sign(
                Claims(sub: "x", scope: .user, iat: 0, exp: 4e9, jti: "s"))
            for (token, sentence) in [
                (old, "expired"), (strange, "not one of this server's"), ("nonsense", "not one of this server's"),
                (base64(#"{"alg":"none","typ":"JWT"}"#) + "." + parts[1] + ".", "not one of this server's"),
                (
                    parts[0] + "." + base64(#"{"sub":"x","scope":"user","iat":0,"exp":4e9,"jti":"s"}"#) + "." + parts[2],
                    "not one of this server's"
                ),
            ] {
                let answer = try await world.call("GET", "/auth/me", token: token)
                #expect(answer.status == 401 && answer.detail.contains(sentence), "\(token.prefix(30)): \(answer.detail)")
            }
            #expect(try await world.call("GET", "/peers").status == 401)

            let join = try await world.joinToken(user)
            let kind = try await world.call("GET", "/sessions", token: join)
            #expect(kind.status == 403 && kind.detail.contains("join token"))
            #expect(try await world.call("POST", "/peers", ServerWorld.registration("p"), token: user).status == 403)
            #expect(try await world.call("POST", "/peers", ServerWorld.registration("p"), token: join).status == 201)
            let id = try #require(
                try await world.documents.joinTokens(userId: try await world.documents.user(email: "ada@example.org")?.id ?? "").first?.id)
            #expect(try await world.call("DELETE", "/auth/tokens/\(id)", token: user).status == 204)
            #expect(try await world.call("POST", "/peers", ServerWorld.registration("p"), token: join).status == 401)
        }
    }

    @Test func `session start: each invalid field is named, and nothing stays behind`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            for (fields, sentence) in [
                ([("peers", "0")], "peers is 0"), ([("peers", "1000000")], "peers is 1000000"), ([("peers", "three")], "peers is 'three'"),
                ([("batch_size", "0")], "batch_size is 0"), ([("batch_size", "-4")], "batch_size is -4"),
                ([("epochs", "0")], "epochs is 0"),
                ([("lr", "nan")], "lr is nan"), ([("strategy", "magic")], "one of fedavg, fedprox"),
                ([("colour", "red")], "there is no field 'colour'"),
                ([("hidden", "12,x")], "hidden is '12,x'"), ([("task", "guessing")], "classification, regression"),
                ([("per_peer", "[1]")], "per_peer must be JSON"),
                ([("per_peer", #"{"a":{"speed":1}}"#)], "there is no field 'per_peer.a.speed'"),
                ([("per_peer", String(repeating: "[", count: 10_000))], "per_peer must be JSON"),
                ([("peers", "1"), ("peers", "2")], "twice"),
            ] {
                let answer = try await world.start(fields, token: user)
                #expect(answer.status == 400 && answer.detail.contains(sentence), "\(fields): \(answer.status) \(answer.detail)")
            }
            let few = try await world.start([("peers", "2")], token: user)
            #expect(
                few.status == 400 && few.body.contains(#""code":"not_enough_peers""#)
                    && few.detail.contains("2 peers were asked for and 0 are online"), "\(few)")
            #expect(few.headers["retry-after"] != nil)
            #expect(try await world.start([], file: nil, token: user).detail.contains("no file"))
            #expect(try await world.start([], file: "", token: user).detail.contains("empty"))
            #expect(try await world.start([], files: 2, token: user).detail.contains("two files"))
            #expect(try await world.stored.isEmpty)
        }
    }

    @Test func `too large a file is 413, a cut upload leaves nothing`() async throws {
        try await withServer(change: { $0.uploadLimit = 100_000 }) { world in
            let user = try await world.signup()
            let large = try await world.start([], file: String(repeating: "1,2,3\n", count: 40_000), token: user)
            #expect(large.status == 413 && large.detail.contains("100000"), "\(large)")
            // A raw connection that announces much and ends in the middle.
            let port = try #require(world.url.split(separator: ":").last.flatMap { Int($0) })
            let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup).connect(host: "127.0.0.1", port: port)
                .get()
            let head =
                "POST /sessions/start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(user)\r\nContent-Type: multipart/form-data; boundary=edge\r\nContent-Length: 90000\r\n\r\n--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\n1,2,3\n"
            try await channel.writeAndFlush(ByteBuffer(string: head)).get()
            try await eventually("the upload is stored") { try await world.stored.count == 1 }
            try await channel.close().get()
            try await eventually("the upload is removed") { try await world.stored.isEmpty }
        }
    }

    @Test func `another user's session is not there, and unknown paths and methods are reported`() async throws {
        try await withServer { world in
            let ada = try await world.signup()
            let eve = try await world.signup("eve@example.org")
            _ = try await world.register("p", try await world.joinToken(ada))
            let started = try await world.start([("peers", "1"), ("seed", "4")], token: ada)
            #expect(started.status == 201, "\(started)")
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            for path in [
                "/sessions/\(id)", "/sessions/\(id)/results", "/sessions/\(id)/metrics", "/sessions/\(id)/model",
                "/sessions/training-status?session_id=\(id)",
            ] {
                #expect(try await world.call("GET", path, token: eve).status == 404, "\(path)")
            }
            #expect(try await world.call("POST", "/sessions/\(id)/cancel", token: eve).status == 404)
            #expect(try await world.call("GET", "/sessions/\(id)/results", token: ada).status == 409)
            let mine = try await world.call("GET", "/sessions/training-status", token: ada)
            #expect(mine.status == 200 && mine.body.contains("\"status\":\"PENDING\""))
            #expect(try await world.call("GET", "/nowhere").status == 404)
            let method = try await world.call("DELETE", "/sessions", token: ada)
            #expect(method.status == 405 && method.headers["allow"] == "GET, HEAD", "\(method)")
            // The one peer is locked: another session does not get it.
            let second = try await world.start([("peers", "1")], token: ada)
            #expect(
                second.status == 400 && second.body.contains(#""code":"not_enough_peers""#)
                    && second.detail.contains("1 peer was asked for and 0 are online"), "\(second.detail)")
        }
    }

    @Test func `peers: stale registrations, foreign ids, strange capabilities, unsigned links`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            let join = try await world.joinToken(user)
            let first = try await world.register("p", join)
            let id = first.peerId
            let mine = first.credential
            #expect(
                try await world.call("POST", "/peers/\(id)/heartbeat", #"{"registration":\#(first.registration)}"#, token: mine).status
                    == 204)
            #expect(try await world.call("POST", "/peers/\(id)/heartbeat", #"{"registration":99}"#, token: mine).status == 409)
            for speed in ["-1", "0", "1e999", "\"fast\"", "1e308", "1.7e308", "1e12", "5e-324"] {
                #expect(
                    try await world.call("POST", "/peers", ServerWorld.registration("q", samplesPerSecond: speed), token: join).status
                        == 400, "\(speed)")
            }
            let strange = try await world.call(
                "POST", "/peers/\(id)/events", #"{"type":"ENABLED","session_id":"other","peer_id":"\#(id)"}"#, token: mine)
            #expect(strange.status == 409, "\(strange)")
            #expect(try await world.call("POST", "/peers/\(id)/events", #"{"type":"DONE"}"#, token: mine).status == 400)
            for (lines, status) in [
                (
                    #"{"type":"ENABLED","session_id":"a","peer_id":"\#(id)"}"# + "\n"
                        + #"{"type":"ENABLED","session_id":"b","peer_id":"\#(id)"}"#, 400
                ),
                (#"{"type":"ENABLED","session_id":"a","peer_id":"\#(id)"}"# + "\n", 409), ("", 400), ("\n", 400),
                (#"{"type":"ENABLED","session_id":"a","peer_id":"\#(id)"}"#, 409),
                (#"{"session_id":"a","peer_id":"\#(id)","x":""# + String(repeating: "x", count: 70_000) + #""}"#, 413),
                (String(repeating: #"{"type":"ENABLED","session_id":"a","peer_id":"\#(id)"}"# + "\n", count: 65), 413),
            ] {
                let answer = try await world.call(
                    "POST", "/peers/\(id)/events", lines, token: mine, type: "application/x-ndjson")
                #expect(answer.status == status, "\(lines.prefix(100)): \(answer.body)")
            }
            #expect(try await world.call("GET", "/objects/x.csv").status == 403)
            #expect(try await world.call("GET", "/objects/x.csv?expires=99999999999&signature=00").status == 403)
            #expect(try await world.call("DELETE", "/peers/\(id)?registration=\(first.registration)", token: mine).status == 204)
            #expect(
                try await world.call("POST", "/peers/\(id)/heartbeat", #"{"registration":\#(first.registration)}"#, token: mine).status
                    == 409)
        }
    }

    /// A class shares one join token: a machine speaks for itself alone, and replaces no other.
    @Test func `the join token only registers; a peer's credential is good for that peer and registration alone`() async throws {
        try await withServer { world in
            let user = try await world.signup()
            let join = try await world.joinToken(user)
            let (first, second) = (try await world.register("first", join), try await world.register("second", join))
            let calls: [(method: String, path: String, body: String?)] = [
                ("DELETE", "?registration=\(first.registration)", nil), ("GET", "/commands?registration=\(first.registration)", nil),
                ("POST", "/heartbeat", #"{"registration":\#(first.registration)}"#), ("POST", "/commands/ack", #"{"through":1}"#),
                ("POST", "/events", #"{"type":"ENABLED","session_id":"s","peer_id":"\#(first.peerId)"}"#),
            ]
            for call in calls {
                for token in [join, second.credential, user] {
                    let answer = try await world.call(call.method, "/peers/\(first.peerId)\(call.path)", call.body ?? "", token: token)
                    #expect(answer.status == 403, "\(call.method) \(call.path): \(answer)")
                }
            }
            #expect(try await world.call("GET", "/peers", token: first.credential).status == 403)
            #expect(try await world.documents.peer(id: first.peerId)?.status == .online)

            // Its id is taken over with its credential only; then the old credential is worth nothing.
            func back(_ credential: String?) async throws -> ServerWorld.Answer {
                let proof = credential.map { #","credential":"\#($0)""# } ?? ""
                let body = ServerWorld.registration("first").dropLast() + #","id":"\#(first.peerId)"\#(proof)}"#
                return try await world.call("POST", "/peers", String(body), token: join)
            }
            for wrong in [nil, second.credential, join, user, "x"] { #expect(try await back(wrong).status == 409) }
            let again = try CohortJSON.decode(API.Registered.self, from: try await back(first.credential).body.utf8)
            #expect(again.peerId == first.peerId && again.registration == first.registration + 1)
            let late = try await world.call(
                "POST", "/peers/\(first.peerId)/heartbeat", #"{"registration":\#(first.registration)}"#, token: first.credential)
            #expect(late.status == 409, "\(late)")

            // Revoked, the join token takes its machines with it.
            let tokens = try CohortJSON.decode([API.Token].self, from: try await world.call("GET", "/auth/tokens", token: user).body.utf8)
            #expect(try await world.call("DELETE", "/auth/tokens/\(tokens[0].id)", token: user).status == 204)
            let revoked = try await world.call(
                "POST", "/peers/\(again.peerId)/heartbeat", #"{"registration":\#(again.registration)}"#, token: again.credential)
            #expect(revoked.status == 401, "\(revoked)")
        }
    }

    @Test func `a session takes its owner's peers; another's only when both sides say so`() async throws {
        try await withServer { world in
            let (ada, eve) = (try await world.signup(), try await world.signup("eve@example.org"))
            let join = try await world.joinToken(eve)
            _ = try await world.register("eve-1", join)
            let open = ServerWorld.registration("eve-2").dropLast() + #","serve":"everyone"}"#
            #expect(try await world.call("POST", "/peers", String(open), token: join).status == 201)
            let listed = try CohortJSON.decode([API.PeerView].self, from: try await world.call("GET", "/peers", token: ada).body.utf8)
            #expect(listed.map(\.name) == ["eve-2"], "who serves only its owner is not shown to others")

            let mine = try await world.start([("peers", "1")], token: ada)
            #expect(
                mine.status == 400 && mine.body.contains(#""code":"not_enough_peers""#) && mine.detail.contains("0 are online and free"),
                "\(mine.detail)")
            let two = try await world.start([("peers", "2"), ("pool", "everyone")], token: ada)
            #expect(
                two.status == 400 && two.body.contains(#""code":"not_enough_peers""#) && two.detail.contains("1 is online"),
                "eve-1 serves eve alone: \(two.detail)")
            #expect(try await world.documents.sessionCounts().isEmpty, "what was not started is not there")
            let one = try await world.start([("peers", "1"), ("pool", "everyone")], token: ada)
            #expect(one.status == 201, "\(one)")
            #expect(try await world.documents.peers().filter { $0.sessionId != nil }.map(\.name) == ["eve-2"])
            #expect(try await world.start([("peers", "1"), ("pool", "unknown")], token: ada).status == 400)
        }
    }

    @Test func `a link to PUT an update takes its size, and one object`() async throws {
        try await withServer { world in
            let link = try await world.objects.presignedPut("updates/s/u", maxBytes: 300_000, expiry: Date().addingTimeInterval(60))
            func put(_ bytes: String, _ link: String) async throws -> ServerWorld.Answer {
                try await world.call("PUT", link, bytes, type: "application/octet-stream")
            }
            let (small, large) = ("abc", String(repeating: "x", count: 290_000))
            #expect(try await put(String(repeating: "x", count: 300_001), link).status == 413)
            #expect(try await world.objects.head("updates/s/u") == nil)
            #expect(try await put(large, link).status == 201)
            #expect(try await put(large, link).status == 200, "the answer was lost: the same again is fine")
            let other = try await put(small, link)
            #expect(other.status == 409 && other.detail.contains("used already"), "\(other)")
            #expect(try await world.objects.head("updates/s/u")?.bytes == 290_000)
            #expect(try await put(small, link.replacing("max=300000", with: "max=900000")).status == 403)
            let late = try await world.objects.presignedPut("updates/s/v", maxBytes: 10, expiry: Date().addingTimeInterval(60))
            try await world.objects.closeLinks(prefix: "updates/s/")
            #expect(try await put(small, late).status == 403)
            #expect(try await world.objects.list(prefix: "updates/") == ["updates/s/u"])
        }
    }

    @Test func `an e-mail of a megabyte is refused at sign-in, and kept nowhere`() async throws {
        try await withServer { world in
            let answer = try await world.call(
                "POST", "/auth/signin", #"{"email":"\#(String(repeating: "a", count: 1_000_000))@example.org","password":"x"}"#)
            #expect(answer.status == 400 && answer.detail.contains("254"), "\(answer.detail)")
        }
    }

    @Test func `health and metrics answer anybody`() async throws {
        try await withServer { world in
            #expect(try await world.call("GET", "/health/live").status == 200)
            #expect(try await world.call("GET", "/health/ready").status == 200)
            let description = try await world.call("GET", "/openapi.json").body
            #expect(description.contains("\"/sessions/{id}/predict\":{\"post\"") && description.contains("\"openapi\":\"3.1.0\""))
            let text = try await world.call("GET", "/metrics").body
            #expect(text.contains("cohort_peers{status=\"ONLINE\"} 0") && text.contains("cohort_http_requests_total{"))
        }
    }
}
