import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Objects behind presigned links: no token, a signature.
struct ObjectRoutes: Sendable {
    let objects: any ServedObjectStore
    let limit: Int
    let time: any TimeSource

    var routes: [Route] {
        [
            .open(.get, "/objects/**", summary: "Read an object by a presigned link", access: .link, read),
            .open(.put, "/objects/**", summary: "Write an object by a presigned link", access: .link, write),
        ]
    }

    private func key(_ request: Request) throws -> String {
        let path = request.uri.path.dropFirst("/objects/".count)
        guard let key = path.percentDecoded, !key.isEmpty else { throw CohortError(.invalid, "the link names no object") }
        guard let expires = request.query("expires").flatMap({ Int($0) }), let signature = request.query("signature") else {
            throw CohortError(.forbidden, "this link is not signed: it needs expires and signature, as the message that named it has them")
        }
        try objects.verify(
            method: request.method == .head ? "GET" : request.method.rawValue, key: key, expires: expires,
            maxBytes: request.query("max").flatMap { Int($0) }, scope: request.query("for"),
            signature: signature, now: time.date)
        return key
    }

    private func read(_ request: Request, _ context: Context) async throws -> Response {
        let key = try key(request)
        guard request.headers[.range] != nil || request.headers[.ifNoneMatch] != nil else {
            // In one step: what is read is what was looked at.
            let (reference, bytes) = try await objects.open(key)
            return try await .download(request, reference) { _ in bytes }
        }
        guard let reference = try await objects.head(key) else { throw CohortError(.notFound, "there is no object '\(key)'") }
        return try await .download(request, reference) { try await objects.read(key, from: $0) }
    }

    private func write(_ request: Request, _ context: Context) async throws -> Response {
        let key = try key(request)
        let limit = min(limit, request.query("max").flatMap { Int($0) } ?? limit)
        if let length = request.contentLength, length > limit {
            context.closeSoon()
            throw CohortError(.tooLarge, "the object has \(length) bytes; at most \(limit) are taken")
        }
        if let known = try objects.beginLinkedPut(key) { return try await verifyRepeat(request, key: key, known: known, limit: limit) }
        var sha256: String?
        defer { objects.endLinkedPut(key, sha256: sha256) }
        let reference = try await store(request, key: key, limit: limit)
        sha256 = reference.sha256
        return try .json(reference, status: .created)
    }

    /// A link is good for one object: a sender that did not hear the answer sends the same bytes again, and no others.
    private func verifyRepeat(_ request: Request, key: String, known: String, limit: Int) async throws -> Response {
        var digest = SHA256()
        var count = 0
        do {
            for try await chunk in request.body {
                count += chunk.readableBytes
                guard count <= limit else { throw CohortError(.tooLarge, "the object has more than \(limit) bytes") }
                chunk.withUnsafeReadableBytes { digest.update(bufferPointer: $0) }
            }
        } catch {
            throw brokenOff(error)
        }
        let found = digest.finalize().hexadecimal
        guard found == known, let reference = try await objects.head(key) else {
            throw CohortError(.conflict, "the link was used already, for other bytes: it is good for one object")
        }
        return try .json(reference)
    }

    private func store(_ request: Request, key: String, limit: Int) async throws -> ObjectReference {
        // A small one is stored in one step.
        if let length = request.contentLength, length <= Self.smallObject {
            let bytes: ByteBuffer
            do {
                bytes = try await request.body.collect(upTo: Self.smallObject)
            } catch {
                throw brokenOff(error)
            }
            return try await objects.put([UInt8](bytes.readableBytesView), key: key)
        }
        let writer = try await objects.writer(key: key)
        do {
            var count = 0
            for try await chunk in request.body {
                count += chunk.readableBytes
                guard count <= limit else { throw CohortError(.tooLarge, "the object has more than \(limit) bytes") }
                if chunk.withUnsafeReadableBytes({ writer.take($0) }) { continue }
                try await writer.write([UInt8](chunk.readableBytesView))
            }
            return try await writer.finish()
        } catch {
            await writer.abort()
            throw brokenOff(error)
        }
    }

    private static let smallObject = 256 << 10

    private func brokenOff(_ error: any Error) -> any Error {
        if error is CohortError || error is CancellationError { return error }
        return CohortError(.invalid, "the upload broke off before its end: send it again")
    }
}
