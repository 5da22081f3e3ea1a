import AsyncHTTPClient
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore
import PeerTestSupport
import Synchronization
import TestSupport
import Testing

@Suite
struct ClientTests {
    @Test
    func `throws what the server's problem document says`() async throws {
        try await withHTTPServer { _ in
            try .problem(.notFound, code: "not_found", detail: "there is no session 'x'")
        } _: { server, http in
            await #expect(throws: CohortError(.notFound, "there is no session 'x'")) {
                try await CohortClient(server: server, http: http).session(id: "x")
            }
        }
    }

    @Test(arguments: [
        (HTTPResponse.Status.badGateway, CohortError.Code.unavailable), (.unauthorized, .unauthenticated),
        (.contentTooLarge, .tooLarge),
        (.internalServerError, .internal), (.conflict, .conflict),
    ])
    func `says what an error without a problem document means`(status: HTTPResponse.Status, code: CohortError.Code) async throws {
        try await withHTTPServer { _ in
            .bytes("<html>".utf8, status: status)
        } _: { server, http in
            let error = await #expect(throws: CohortError.self) { try await CohortClient(server: server, http: http).me() }
            #expect(error?.code == code)
            #expect(error?.message.contains("\(status.code)") == true)
        }
    }

    @Test
    func `says where no server is, and what to do`() async throws {
        // A port that was free a moment ago.
        let server = try await withHTTPServer({ _ in .bytes([]) }) { server, _ in server }
        let http = HTTPClient.cohort()
        let error = await #expect(throws: CohortError.self) { try await CohortClient(server: server, http: http).me() }
        try await http.shutdown()
        #expect(error == CohortError(.unavailable, "cannot reach \(server): is `cohort serve` running?"))
    }

    @Test
    func `sends its token, and encodes what it puts into paths`() async throws {
        try await withHTTPServer { request in
            #expect(request.headers[.authorization] == "Bearer secret")
            #expect(request.uri.path == "/sessions/a%2Fb%3Fc/cancel")
            return Response(status: .noContent)
        } _: { server, http in
            try await CohortClient(server: server, token: "secret", http: http).cancel(id: "a/b?c")
        }
    }

    @Test
    func `streams the file and every field of the settings`() async throws {
        let received = Mutex<[UInt8]>([])
        let contentType = Mutex("")
        try await withFolder { folder in
            let file = "\(folder)/some \"data\".csv"
            let contents = (0..<40_000).map { "\($0),\($0 * 2)\n" }.joined()
            try Data(contents.utf8).write(to: URL(filePath: file))
            let sent = Mutex<[Int]>([])
            try await withHTTPServer { request in
                let bytes = try await request.bytes()
                received.withLock { $0 = bytes }
                contentType.withLock { $0 = request.headers[.contentType] ?? "" }
                return try .problem(.badRequest, code: "invalid", detail: "2 peers are ONLINE, 3 were asked for")
            } _: { server, http in
                var settings = SessionSettings(peers: 3, hidden: [], task: .regression, target: "y", earlyStopping: 4, maxNormRatio: 5)
                settings.data = DataOptions(header: false, use: ["a b"], ignore: ["c", "d"], group: "g", scaling: .range)
                settings.classWeight = .byLabel(["camelCase": 2])
                settings.lrSchedule = .cosine
                settings.perPeer = ["laptop": SessionSettings.Override(batchSize: 4)]
                await #expect(throws: CohortError(.invalid, "2 peers are ONLINE, 3 were asked for")) {
                    try await CohortClient(server: server, http: http).startSession(settings, file: file) { count, total in
                        sent.withLock { $0.append(count) }
                        #expect(total == contents.utf8.count)
                    }
                }
            }
            #expect(sent.withLock { $0 }.last == contents.utf8.count)
            #expect(sent.withLock { $0 } == sent.withLock { $0 }.sorted())
            let body = String(decoding: received.withLock { $0 }, as: UTF8.self)
            let boundary = contentType.withLock { $0 }.split(separator: "boundary=").last.map(String.init) ?? ""
            #expect(body.hasSuffix("\r\n\r\n\(contents)\r\n--\(boundary)--\r\n"))
            #expect(body.contains("name=\"file\"; filename=\"some %22data%22.csv\""))
            for (name, value) in [
                ("peers", "3"), ("strategy", "fedavg"), ("rounds", "10"), ("epochs", "1"), ("batch_size", "32"), ("lr", "0.001"),
                ("optimizer", "adam"), ("hidden", "none"), ("activation", "relu"), ("dropout", "0.0"), ("task", "regression"),
                ("target", "y"), ("seed", "0"), ("validation", "0.2"), ("min_peers", "1"), ("per_peer", #"{"laptop":{"batch_size":4}}"#),
                ("early_stopping", "4"), ("max_norm_ratio", "5.0"), ("class_weight", #"{"camelCase":2}"#), ("momentum", "0.0"),
                ("weight_decay", "0.0"), ("header", "no"), ("use", #"["a b"]"#), ("ignore", #"["c","d"]"#), ("group", "g"),
                ("scaling", "range"), ("lr_schedule", "cosine"), ("nesterov", "false"), ("beta1", "0.9"),
            ] {
                #expect(body.contains("--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n"), "\(name)")
            }
        }
    }

    @Test
    func `says that a file is not there`() async throws {
        try await withHTTPServer({ _ in .bytes([]) }) { server, http in
            await #expect(throws: CohortError(.invalid, "there is no file /nowhere/data.csv")) {
                try await CohortClient(server: server, http: http).startSession(SessionSettings(), file: "/nowhere/data.csv")
            }
        }
    }

    @Test
    func `gives a session's notices as they come, and ends with the stream`() async throws {
        let notices = (1...3).map {
            SessionNotice(sessionId: "s", kind: .note, time: Date(timeIntervalSince1970: Double($0)), message: "n\($0)")
        }
        try await withHTTPServer { request in
            #expect(request.headers[.accept] == "text/event-stream")
            return Response(
                status: .ok, headers: [.contentType: "text/event-stream"],
                body: ResponseBody { writer in
                    for notice in notices {
                        try await writer.write(ByteBuffer(string: ": ping\n\ndata: "))
                        try await writer.write(ByteBuffer(bytes: try CohortJSON.encode(notice)))
                        try await writer.write(ByteBuffer(string: "\n\n"))
                    }
                    try await writer.finish(nil)
                })
        } _: { server, http in
            var received: [SessionNotice] = []
            for try await notice in try await CohortClient(server: server, http: http).events(id: "s") { received.append(notice) }
            #expect(received == notices)
        }
    }

    @Test
    func `writes a model whole, or not at all`() async throws {
        let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
        let cut = Mutex(true)
        try await withFolder { folder in
            try await withHTTPServer { _ in
                cut.withLock { $0 } ? .cut(bytes, after: 100_000) : .bytes(bytes)
            } _: { server, http in
                let client = CohortClient(server: server, http: http)
                await #expect(throws: CohortError.self) { try await client.downloadModel(id: "s", to: "\(folder)/model.safetensors") }
                #expect(names(in: folder) == [])
                cut.withLock { $0 = false }
                let written = try await client.downloadModel(id: "s", to: "\(folder)/model.safetensors")
                #expect(written == bytes.count)
                #expect(contents(of: "\(folder)/model.safetensors") == bytes)
                #expect(names(in: folder) == ["model.safetensors"])
            }
        }
    }
}
