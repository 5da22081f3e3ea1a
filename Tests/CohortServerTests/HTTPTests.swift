import AsyncHTTPClient
import CohortAPI
import CohortCore
import DirectoryObjects
import FoundationEssentials
import HTTPTypes
import NIOCore
import NIOHTTP1
import NIOHTTPCompression
import NIOPosix
import Testing

@testable import CohortServer

/// HTTP as other programs speak it: over a raw connection, byte by byte.
@Suite struct HTTPTests {
    /// One connection, read until what is waited for has come.
    private struct Raw: Sendable {
        let channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>

        static func with(_ world: ServerWorld, _ body: @escaping @Sendable (Writer, inout Reader) async throws -> Void) async throws {
            let port = try #require(world.url.split(separator: ":").last.flatMap { Int($0) })
            let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connect(host: "127.0.0.1", port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            try await channel.executeThenClose { inbound, outbound in
                var reader = Reader(iterator: inbound.makeAsyncIterator())
                try await body(Writer(outbound: outbound), &reader)
            }
        }
    }

    fileprivate struct Writer: Sendable {
        let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
        func send(_ text: String) async throws { try await outbound.write(ByteBuffer(string: text)) }
    }

    fileprivate struct Reader {
        var iterator: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
        var text = ""

        /// - Returns: what has come up to and with `end`; without one all until the connection closes.
        mutating func read(to end: String? = nil) async throws -> String {
            while true {
                if let end, let range = text.firstRange(of: end) {
                    defer { text = String(text[range.upperBound...]) }
                    return String(text[..<range.upperBound])
                }
                // A reset is an end as well.
                guard let bytes = try? await iterator.next() else {
                    guard end == nil else { throw CohortError(.unavailable, "the connection ended at '\(text)'") }
                    defer { text = "" }
                    return text
                }
                text += String(buffer: bytes)
            }
        }
    }

    @Test func `HEAD has GET's headers and no body, and the next answer stands where it should`() async throws {
        try await withServer { world in
            try await Raw.with(world) { writer, reader in
                for (path, status) in [("/health/live", "200"), ("/openapi.json", "200"), ("/nowhere", "404"), ("/auth/me", "401")] {
                    try await writer.send("HEAD \(path) HTTP/1.1\r\nHost: x\r\n\r\n")
                    let head = try await reader.read(to: "\r\n\r\n")
                    #expect(head.hasPrefix("HTTP/1.1 \(status) "), "\(path): \(head)")
                    let length = try #require(head.lowercased().split(separator: "\r\n").first { $0.hasPrefix("content-length: ") })
                    #expect(length != "content-length: 0", "as GET has it: \(head)")
                }
                try await writer.send(
                    "HEAD /auth/signin HTTP/1.1\r\nHost: x\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                let refused = try await reader.read(to: "\r\n\r\n")
                #expect(refused.hasPrefix("HTTP/1.1 405 ") && refused.lowercased().contains("allow: post"), "\(refused)")
                let rest = try await reader.read()
                #expect(rest.hasPrefix("HTTP/1.1 200 ") && rest.hasSuffix(#"{"status":"live"}"#), "\(rest)")
            }
        }
    }

    @Test func `a client that waits for 100 Continue receives it, or the reason not to send the body`() async throws {
        try await withServer { world in
            let token = try await world.signup()
            try await Raw.with(world) { writer, reader in
                let body = #"{"email":"ada@example.org","password":"correct horse"}"#
                try await writer.send(
                    "POST /auth/signin HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: \(body.utf8.count)\r\n\r\n")
                #expect(try await reader.read(to: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
                try await writer.send(body)
                #expect(try await reader.read(to: "\r\n\r\n").hasPrefix("HTTP/1.1 200 OK"))
            }
            for (authorization, status) in [("", "401"), ("Authorization: Bearer \(token)\r\n", "413")] {
                try await Raw.with(world) { writer, reader in
                    try await writer.send(
                        "POST /sessions/start HTTP/1.1\r\nHost: x\r\n\(authorization)Expect: 100-continue\r\nContent-Length: 900000000000\r\nContent-Type: multipart/form-data; boundary=edge\r\n\r\n"
                    )
                    let answer = try await reader.read(to: "\r\n\r\n")
                    #expect(answer.hasPrefix("HTTP/1.1 \(status) ") && answer.lowercased().contains("connection: close"), "\(answer)")
                }
            }
        }
    }

    @Test func `what is no HTTP, or too long, is answered with a problem and the end of the connection`() async throws {
        try await withServer { world in
            for (request, status, words) in [
                ("GET /health/live HTTP/1.1\r\n\r\n", 400, "0 Host headers"),
                ("GET /health/live HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "2 Host headers"),
                (
                    "GET /health/live?\(String(repeating: "x", count: 20_000)) HTTP/1.1\r\nHost: x\r\n\r\n", 414,
                    "path and query have 20013 bytes"
                ),
                ("GET /health/live HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "x", count: 100_000))\r\n\r\n", 431, "larger than 80 KiB"),
                ("\u{1}\u{2}\u{3}\r\n\r\n", 400, "this is not HTTP/1.1"),
                ("GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400, "this is not HTTP/1.1"),
            ] {
                try await Raw.with(world) { writer, reader in
                    try await writer.send(request)
                    let answer = try await reader.read()
                    #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(request.prefix(60)): \(answer)")
                    #expect(answer.contains("application/problem+json") && answer.contains(words), "\(request.prefix(60)): \(answer)")
                }
            }
            try await Raw.with(world) { writer, reader in
                try await writer.send("GET /health/live HTTP/1.0\r\n\r\n")
                #expect(try await reader.read().contains("200 OK"), "and the connection closes")
            }
        }
    }

    @Test func `stalled clients time out`() async throws {
        let start = "GET /health/live HTTP/1.1\r\nHost: x\r\n"
        let upload =
            "POST /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        let unwanted =
            "POST /sessions/start HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\nContent-Type: multipart/form-data; boundary=edge\r\n\r\n-"
        // Each limit alone: the others are out of the way.
        let long = TimeAmount.hours(1)
        func limits(_ change: (inout ConnectionLimits) -> Void) -> ConnectionLimits {
            var limits = ConnectionLimits(head: long, silence: long, idle: long, body: long, stalled: long, unwanted: long)
            change(&limits)
            return limits
        }
        for (limits, sent, first, rest) in [
            (limits { $0.head = .milliseconds(300) }, start, nil, "HTTP/1.1 408 "),
            (limits { $0.silence = .milliseconds(300) }, "", nil, ""),
            (limits { $0.idle = .milliseconds(300) }, start + "\r\n", "live\"}", ""),
            (limits { $0.body = .milliseconds(300) }, upload, nil, "HTTP/1.1 408 "),
            // Refused before its body: who sends it nevertheless does not hold the connection.
            (limits { $0.unwanted = .milliseconds(300) }, unwanted, nil, "HTTP/1.1 401 "),
        ] as [(ConnectionLimits, String, String?, String)] {
            try await withServer(change: { $0.limits = limits }) { world in
                try await Raw.with(world) { writer, reader in
                    if !sent.isEmpty { try await writer.send(sent) }
                    if let first { _ = try await reader.read(to: first) }
                    let answer = try await reader.read()
                    #expect(answer.hasPrefix(rest), "\(sent): \(answer)")
                    #expect(rest.isEmpty ? answer.isEmpty : answer.contains("application/problem+json"), "\(sent): \(answer)")
                }
            }
        }
    }

    @Test func `a page from the origin that is set may use the API, and no other unless set`() async throws {
        let preflight =
            "OPTIONS /sessions HTTP/1.1\r\nHost: x\r\nOrigin: https://lab.example.org\r\nAccess-Control-Request-Method: GET\r\nConnection: close\r\n\r\n"
        try await withServer { world in
            try await Raw.with(world) { writer, reader in
                try await writer.send(preflight)
                let answer = try await reader.read()
                #expect(answer.hasPrefix("HTTP/1.1 405 ") && !answer.lowercased().contains("access-control"), "\(answer)")
            }
        }
        try await withServer(change: { $0.corsOrigin = "https://lab.example.org" }) { world in
            try await Raw.with(world) { writer, reader in
                try await writer.send(preflight)
                let answer = try await reader.read().lowercased()
                #expect(
                    answer.hasPrefix("http/1.1 204 ") && answer.contains("access-control-allow-origin: https://lab.example.org"),
                    "\(answer)")
                #expect(answer.contains("authorization"), "\(answer)")
            }
            try await Raw.with(world) { writer, reader in
                try await writer.send("GET /auth/me HTTP/1.1\r\nHost: x\r\nOrigin: https://lab.example.org\r\nConnection: close\r\n\r\n")
                let answer = try await reader.read().lowercased()
                #expect(
                    answer.hasPrefix("http/1.1 401 ") && answer.contains("access-control-allow-origin"),
                    "a page may read problems: \(answer)")
            }
        }
    }

    @Test func `ranges as RFC 9110 has them`() {
        for (header, range) in [
            (nil, .whole), ("bytes=0-9", .part(0..<10)), ("bytes=90-", .part(90..<100)), ("bytes=-5", .part(95..<100)),
            ("bytes=0-", .part(0..<100)), ("bytes=95-200", .part(95..<100)), ("bytes=-200", .part(0..<100)),
            ("bytes=100-", .unsatisfiable), ("bytes=-0", .unsatisfiable), ("bytes=99999999999999999999-", .unsatisfiable),
            ("bytes=5-2", .whole), ("bytes=-", .whole), ("bytes=a-b", .whole), ("bytes=0-1,5-6", .whole), ("lines=0-1", .whole),
        ] as [(String?, ByteRange)] {
            #expect(ByteRange(header, of: 100) == range, "\(header ?? "none")")
        }
        #expect(ByteRange("bytes=0-", of: 0) == .unsatisfiable)
    }

    @Test func `parts of an object, and none of one that is known`() async throws {
        try await withServer { world in
            let reference = try await world.objects.put([UInt8]("0123456789".utf8), key: "models/m")
            let link = try await world.objects.presignedGet("models/m", expiry: Date().addingTimeInterval(60))
            func get(_ name: String, _ value: String) async throws -> ServerWorld.Answer {
                try await world.call("GET", link, headers: [(name, value)])
            }
            let part = try await get("Range", "bytes=2-4")
            #expect(part.status == 206 && part.body == "234" && part.headers["content-range"] == "bytes 2-4/10", "\(part)")
            let tag = try #require(part.headers["etag"])
            #expect(tag == "\"\(reference.sha256)\"")
            let known = try await get("If-None-Match", tag)
            #expect(known.status == 304 && known.body.isEmpty && known.headers["etag"] == tag, "\(known)")
            let past = try await get("Range", "bytes=10-")
            #expect(past.status == 416 && past.headers["content-range"] == "bytes */10" && past.detail.contains("10 bytes"), "\(past)")
            let all = try await get("Range", "bytes=5-2")
            #expect(all.status == 200 && all.body == "0123456789", "\(all)")
        }
    }

    @Test func `who takes gzip gets it where it is shorter, and the same text`() async throws {
        for (header, takes) in [
            (nil, false), ("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("*", true), ("*;q=0.1, gzip;q=0", false),
            ("identity", false), ("", false), (";;,", false), ("gzip;q=x", false),
        ] as [(String?, Bool)] {
            #expect(CompressionMiddleware.takesGzip(header) == takes, "\(header ?? "none")")
        }
        try await withServer { world in
            let plain = try await world.call("GET", "/openapi.json")
            #expect(plain.headers["content-encoding"] == nil && plain.headers["vary"] == "Accept-Encoding")
            var configuration = HTTPClient.Configuration()
            configuration.decompression = .enabled(limit: .none)
            let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
            var request = HTTPClientRequest(url: world.url + "/openapi.json")
            request.headers.add(name: "Accept-Encoding", value: "gzip")
            let response = try await http.execute(request, timeout: .seconds(120))
            let text = String(buffer: try await response.body.collect(upTo: 10 << 20))
            try await http.shutdown()
            #expect(response.headers.first(name: "Content-Encoding") == "gzip")
            let length = try #require(response.headers.first(name: "Content-Length").flatMap { Int($0) })
            #expect(length * 3 < plain.body.utf8.count, "\(length) of \(plain.body.utf8.count)")
            #expect(text == plain.body)
            // Short answers, and what has no text.
            for path in ["/health/live"] {
                #expect(try await world.call("GET", path, headers: [("Accept-Encoding", "gzip")]).headers["content-encoding"] == nil)
            }
        }
    }
}
