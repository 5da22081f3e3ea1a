import HTTPTypes
import Hummingbird
import NIOCore
import NIOEmbedded
import NIOHTTP1
import NIOHTTPCompression

/// Compresses answers of text (JSON, CSV, pages) for those who take gzip. Models and data sets are left alone, and so are streams.
struct CompressionMiddleware: RouterMiddleware {
    /// Below that it is not worth the while; above, a body is not held in memory twice.
    private static let sizes = 1_024...(16 << 20)
    private static let types = [
        "application/json", "application/problem+json", "text/csv", "text/html", "text/plain", "text/x-shellscript",
    ]

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        var response = try await next(request, context)
        guard let length = response.body.contentLength, Self.sizes.contains(length), response.headers[.contentEncoding] == nil,
            let type = response.headers[.contentType], Self.types.contains(where: { type.hasPrefix($0) })
        else { return response }
        response.headers[.vary] = "Accept-Encoding"
        guard request.method != .head, Self.takesGzip(request.headers[.acceptEncoding]) else { return response }
        let collector = Collector()
        try await response.body.write(Writer(collector: collector))
        guard let compressed = try Self.gzip(collector.bytes), compressed.readableBytes < length else { return response }
        response.headers[.contentEncoding] = "gzip"
        response.headers[.contentLength] = nil
        response.body = ResponseBody(byteBuffer: compressed)
        return response
    }

    /// Collects one answer within one task.
    private final class Collector {
        var bytes = ByteBuffer()
    }

    private struct Writer: ResponseBodyWriter {
        let collector: Collector

        mutating func write(_ buffer: ByteBuffer) async throws { collector.bytes.writeImmutableBuffer(buffer) }

        consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
    }

    /// `gzip`, or anything, with a weight other than 0 (RFC 9110, 12.5.3).
    static func takesGzip(_ header: String?) -> Bool {
        guard let header else { return false }
        var weights: [String: Double] = [:]
        for choice in header.lowercased().split(separator: ",") {
            let parts = choice.split(separator: ";").map { $0.filter { $0 != " " } }
            guard let name = parts.first else { continue }
            let weight = parts.dropFirst().first { $0.hasPrefix("q=") }.map { Double($0.dropFirst(2)) ?? 0 }
            weights[name] = weight ?? 1
        }
        return (weights["gzip"] ?? weights["*"] ?? 0) > 0
    }

    /// Compresses by SwiftNIO's handler in a separate channel: in a connection it would need a request's head for every answer, which refusals
    /// of half a request have not.
    private static func gzip(_ bytes: ByteBuffer) throws -> ByteBuffer? {
        let channel = EmbeddedChannel(handler: HTTPResponseCompressor())
        defer { _ = try? channel.finish() }  // What came out of it is at hand.
        try channel.writeInbound(
            HTTPServerRequestPart.head(HTTPRequestHead(version: .http1_1, method: .GET, uri: "/", headers: ["accept-encoding": "gzip"])))
        try channel.writeOutbound(HTTPServerResponsePart.head(HTTPResponseHead(version: .http1_1, status: .ok)))
        try channel.writeOutbound(HTTPServerResponsePart.body(.byteBuffer(bytes)))
        try channel.writeOutbound(HTTPServerResponsePart.end(nil))
        var compressed = ByteBuffer()
        while let part = try channel.readOutbound(as: HTTPServerResponsePart.self) {
            switch part {
            case .head(let head): guard head.headers.first(name: "content-encoding") == "gzip" else { return nil }
            case .body(.byteBuffer(var buffer)): compressed.writeBuffer(&buffer)
            default: break
            }
        }
        return compressed
    }
}
