package import AsyncHTTPClient
import CohortAPI
package import CohortClient
import CohortCore
import FoundationEssentials
package import HTTPTypes
import Hummingbird
package import HummingbirdCore
package import Logging
import NIOCore
import ServiceLifecycle

package let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A real HTTP server on a free port for as long as `body` runs; its requests go to `handler`.
@discardableResult
package func withHTTPServer<Value: Sendable>(
    _ handler: @escaping @Sendable (Request) async throws -> Response,
    _ body: @escaping @Sendable (ServerURL, HTTPClient) async throws -> Value
) async throws -> Value {
    let (ports, port) = AsyncStream.makeStream(of: Int.self)
    let app = Application(
        responder: CallbackResponder<BasicRequestContext> { request, _ in try await handler(request) },
        configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: 0)),
        onServerRunning: { channel in port.yield(channel.localAddress?.port ?? 0) }, logger: silent)
    let http = HTTPClient.cohort(silence: .seconds(10))
    // Not cancelled: a connection that is accepted just then would end the process (swift-nio, issue 3481).
    var configuration = ServiceGroupConfiguration(services: [.init(service: app)], logger: silent)
    configuration.maximumGracefulShutdownDuration = .milliseconds(50)
    let services = ServiceGroup(configuration: configuration)
    do {
        let value = try await withThrowingTaskGroup(of: Value?.self) { group in
            group.addTask {
                try await services.run()
                return nil
            }
            group.addTask {
                for await port in ports { return try await body(ServerURL("http://127.0.0.1:\(port)"), http) }
                return nil
            }
            do {
                guard let value = try await group.next() ?? nil else { throw CohortError(.internal, "the test's server ended") }
                await services.triggerGracefulShutdown()
                return value
            } catch {
                await services.triggerGracefulShutdown()
                throw error
            }
        }
        try await http.shutdown()
        return value
    } catch {
        try? await http.shutdown()
        throw error
    }
}

/// The names in a folder, sorted; nil when there is none.
package func names(in folder: String) -> [String]? { try? FileManager.default.contentsOfDirectory(atPath: folder).sorted() }

package func contents(of path: String) -> [UInt8]? { try? Array(Data(contentsOf: URL(filePath: path))) }

extension Response {
    package static func bytes(_ bytes: some Sequence<UInt8>, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
        Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    package static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) throws -> Response {
        bytes(try CohortJSON.encode(value), status: status, headers: [.contentType: "application/json"])
    }

    package static func problem(_ status: HTTPResponse.Status, code: String, detail: String) throws -> Response {
        bytes(
            try CohortJSON.encode(API.Problem(title: status.reasonPhrase, status: status.code, detail: detail, code: code)), status: status,
            headers: [.contentType: "application/problem+json"])
    }

    /// Announces all of `bytes` and breaks the connection after some of them.
    package static func cut(_ bytes: [UInt8], after count: Int, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
        Response(
            status: status, headers: headers,
            body: ResponseBody(contentLength: bytes.count) { writer in
                try await writer.write(ByteBuffer(bytes: bytes.prefix(count)))
                throw CohortError(.internal, "cut on purpose")
            })
    }
}

extension Request {
    package func bytes() async throws -> [UInt8] {
        var result: [UInt8] = []
        for try await chunk in body { result += Array(chunk.readableBytesView) }
        return result
    }
}
