import AsyncHTTPClient
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortStrategies
import DirectoryObjects
import FoundationEssentials
import Logging
import NIOCore
import NIOHTTP1
import SQLiteDocuments
import ServiceLifecycle
import Testing

@testable import CohortServer

/// A runner that only counts: what comes after the start is not the server's.
final class SilentRunner: SessionRunner {
    func wake(sessionId: String) async {}
    func peersChanged() async {}
}

/// A real server on a free port with real documents and objects, and a raw client.
struct ServerWorld: Sendable {
    let url: String
    let folder: String
    let documents: SQLiteDocuments
    let objects: DirectoryObjects
    let broker: EmbeddedBroker
    let http: HTTPClient
    let basePath: String

    struct Answer: Sendable {
        var status: Int
        var headers: [String: String]
        var body: String

        /// The problem's sentence.
        var detail: String { (try? CohortJSON.decode(API.Problem.self, from: body.utf8).detail) ?? "(no problem document: \(body))" }
    }

    func call(
        _ method: String, _ path: String, _ body: String? = nil, bytes given: [UInt8]? = nil, token: String? = nil,
        type: String = "application/json", headers: [(String, String)] = []
    ) async throws -> Answer {
        var request = HTTPClientRequest(url: url + path)
        request.headers.add(contentsOf: headers)
        request.method = .RAW(value: method)
        if let token { request.headers.add(name: "Authorization", value: "Bearer \(token)") }
        if let body = given ?? body.map({ [UInt8]($0.utf8) }) {
            request.headers.add(name: "Content-Type", value: type)
            request.body = .bytes(ByteBuffer(bytes: body))
        }
        let response = try await http.execute(request, timeout: .seconds(120))
        let bytes = try await response.body.collect(upTo: 10 << 20)
        let answer = Answer(
            status: Int(response.status.code),
            headers: Dictionary(response.headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first }),
            body: String(buffer: bytes))
        // Whatever a test asks: the API's description says that it may be answered so.
        let path = basePath.isEmpty || !path.hasPrefix("\(basePath)/") ? path : String(path.dropFirst(basePath.count))
        let faults = try DescribedAPI.faults(method, path, answer)
        #expect(faults.isEmpty, "\(method) \(path) answered \(answer.status): \(faults)")
        return answer
    }

    func signup(_ email: String = "ada@example.org") async throws -> String {
        let answer = try await call("POST", "/auth/signup", #"{"email":"\#(email)","password":"correct horse"}"#)
        return try CohortJSON.decode(API.AccessToken.self, from: answer.body.utf8).accessToken
    }

    func joinToken(_ user: String) async throws -> String {
        let answer = try await call("POST", "/auth/tokens", "{}", token: user)
        return try #require(try CohortJSON.decode(API.Token.self, from: answer.body.utf8).token)
    }

    func register(_ name: String, _ token: String) async throws -> API.Registered {
        let answer = try await call("POST", "/peers", Self.registration(name), token: token)
        return try CohortJSON.decode(API.Registered.self, from: answer.body.utf8)
    }

    static func registration(_ name: String, samplesPerSecond: String = "1000") -> String {
        #"{"name":"\#(name)","capabilities":{"cores":2,"memory_bytes":1000,"engine":"native","device":"cpu","samples_per_second":\#(samplesPerSecond),"platform":"test","version":"1","encodings":["constant","f32","u8","u16"]}}"#
    }

    func start(_ fields: [(String, String)], file: String? = "x,y\n1,a\n2,b\n", files: Int = 1, token: String) async throws -> Answer {
        var body = fields.map { "--edge\r\nContent-Disposition: form-data; name=\"\($0.0)\"\r\n\r\n\($0.1)\r\n" }.joined()
        if let file {
            for _ in 0..<files {
                body += "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\n\(file)\r\n"
            }
        }
        return try await call("POST", "/sessions/start", body + "--edge--\r\n", token: token, type: "multipart/form-data; boundary=edge")
    }

    /// Objects, and what is on its way to become one.
    var stored: [String] {
        get async throws {
            try await objects.list(prefix: "") + FileManager.default.contentsOfDirectory(atPath: "\(folder)/objects/.tmp")
        }
    }
}

func withServer(
    change: (inout ServerConfiguration) -> Void = { _ in }, time: any TimeSource = SystemTime(),
    _ body: @escaping @Sendable (ServerWorld) async throws -> Void
) async throws {
    let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-server-\(newIdentifier())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let documents = try SQLiteDocuments(path: "\(folder)/db.sqlite")
    let objects = try DirectoryObjects(path: "\(folder)/objects", secret: [UInt8](repeating: 7, count: 32))
    let broker = EmbeddedBroker()
    var configuration = ServerConfiguration(port: 0, dataDirectory: folder, strategies: StrategyCatalogue.builtIn.all, bcryptCost: 4)
    // No peer of a test, which does not beat, is marked OFFLINE because this machine is slow.
    (configuration.suspectAfter, configuration.deadAfter) = (3_600, 7_200)
    change(&configuration)
    let (ports, source) = AsyncStream.makeStream(of: Int.self)
    let server = CohortServer(
        configuration: configuration,
        parts: ServerParts(
            documents: documents, objects: objects, servedObjects: objects, transport: broker, gateway: broker, feed: LocalSessionFeed(),
            runner: SilentRunner(),
            time: time, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    ) { _, port in source.yield(port) }
    let http = HTTPClient.cohort()
    // Not cancelled at once: a connection that is accepted just then would end the process (swift-nio, issue 3481).
    var group = ServiceGroupConfiguration(
        services: [.init(service: server)], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    group.maximumGracefulShutdownDuration = .milliseconds(50)
    let services = ServiceGroup(configuration: group)
    let outcome: Result<Void, any Error>
    do {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { source.finish() }
                try await services.run()
            }
            do {
                var iterator = ports.makeAsyncIterator()
                let port = try #require(await iterator.next())
                try await body(
                    ServerWorld(
                        url: "http://127.0.0.1:\(port)", folder: folder, documents: documents, objects: objects, broker: broker,
                        http: http, basePath: configuration.basePath))
            } catch {
                await services.triggerGracefulShutdown()
                throw error
            }
            await services.triggerGracefulShutdown()
            while let result = await group.nextResult() {
                if case .failure(let error) = result, !(error is CancellationError) { throw error }
            }
        }
        outcome = .success(())
    } catch {
        outcome = .failure(error)
    }
    try await http.shutdown()
    try await documents.close()
    try FileManager.default.removeItem(atPath: folder)
    try outcome.get()
}
