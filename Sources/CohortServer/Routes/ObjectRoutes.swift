import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Objects behind presigned links: no token, a signature.
struct ObjectRoutes: Sendable {
    let objects: any ServedObjectStore
    let limit: Int

    var routes: [Route] {
        [
            .open(.get, "/objects/**", "Read an object by a presigned link", access: .link, read),
            .open(.put, "/objects/**", "Write an object by a presigned link", access: .link, write),
        ]
    }

    private func key(_ request: Request) throws -> String {
        let path = request.uri.path.dropFirst("/objects/".count)
        guard let key = Self.decode(path), !key.isEmpty else { throw CohortError(.invalid, "the link names no object") }
        guard let expires = request.query("expires").flatMap({ Int($0) }), let signature = request.query("signature") else {
            throw CohortError(.forbidden, "this link is not signed: it needs expires and signature, as the message that named it has them")
        }
        try objects.verify(method: request.method.rawValue, key: key, expires: expires, signature: signature, now: Date())
        return key
    }

    /// Percent-decoded; nil when that cannot be done.
    private static func decode(_ path: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = path.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16), rest.count >= 2 else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private func read(_ request: Request, _ context: Context) async throws -> Response {
        let key = try key(request)
        guard let reference = try await objects.head(key) else { throw CohortError(.notFound, "there is no object '\(key)'") }
        var headers: HTTPFields = [.contentType: "application/octet-stream", .acceptRanges: "bytes", .eTag: "\"\(reference.sha256)\""]
        var start = 0
        var status = HTTPResponse.Status.ok
        if let range = request.headers[.range] {
            // `bytes=START-` and `bytes=START-END` up to the end: what a resumed download asks for.
            guard range.hasPrefix("bytes="), let first = Int(range.dropFirst(6).prefix { $0 != "-" }), first >= 0,
                first < max(reference.bytes, 1)
            else {
                throw HTTPProblem(
                    status: .rangeNotSatisfiable, code: .invalid,
                    "the range '\(range.prefix(60))' is not within the object's \(reference.bytes) bytes",
                    headers: [.contentRange: "bytes */\(reference.bytes)"])
            }
            start = first
            status = .partialContent
            headers[.contentRange] = "bytes \(start)-\(reference.bytes - 1)/\(reference.bytes)"
        }
        let bytes = try await objects.read(key, from: start)
        return Response(
            status: status, headers: headers,
            body: ResponseBody(contentLength: reference.bytes - start) { writer in
                for try await chunk in bytes { try await writer.write(ByteBuffer(bytes: chunk)) }
                try await writer.finish(nil)
            })
    }

    private func write(_ request: Request, _ context: Context) async throws -> Response {
        let key = try key(request)
        if let length = request.contentLength, length > limit {
            context.closeSoon()
            throw CohortError(.tooLarge, "the object has \(length) bytes; at most \(limit) are taken")
        }
        let writer = try await objects.writer(key: key)
        var isWritten = false
        do {
            var count = 0
            for try await chunk in request.body {
                count += chunk.readableBytes
                guard count <= limit else { throw CohortError(.tooLarge, "the object has more than \(limit) bytes") }
                try await writer.write([UInt8](chunk.readableBytesView))
            }
            let reference = try await writer.finish()
            isWritten = true
            return try .json(reference, status: .created)
        } catch {
            if !isWritten { await writer.abort() }
            if error is CohortError || error is CancellationError { throw error }
            throw CohortError(.invalid, "the upload broke off before its end: send it again")
        }
    }
}
