import AsyncHTTPClient
import CohortCore
import CohortSystem
import Crypto
import NIOCore
import NIOHTTP1

/// An object on its way here, in chunks of 256 KiB to 1 MiB. A connection that breaks is made again, and goes on where it stopped; the
/// object that it goes on with is the same one.
///
/// Of one reader at a time, as every stream is: that is what makes it safe to share unchecked.
final class S3Reading: @unchecked Sendable {
    private static let chunk = 256 << 10

    private let client: S3Client
    private let key: String
    private var body: HTTPClientResponse.Body.AsyncIterator
    private var buffer = ByteBuffer()
    private var hasEnded = false
    private let etag: String?
    /// The offset of the next byte in the object.
    private var offset: Int
    /// The size of the object, where the store reports it.
    private let end: Int?
    /// The stored hash; nil: unknown, or the object is not read as a whole.
    private let sha256: String?
    private var digest = SHA256()

    /// - Throws: ``CohortError`` `notFound`, and `invalid` for an offset beyond the end.
    init(_ key: String, from offset: Int, client: S3Client) async throws {
        func beyond(_ size: Int?) -> CohortError {
            CohortError(.invalid, "offset \(offset) is not within the \(size.map { "\($0) " } ?? "")bytes of '\(key)'")
        }
        guard offset >= 0 else { throw beyond(nil) }
        self.client = client
        self.key = key
        self.offset = offset
        do {
            let response = try await client.open(Self.call(key, from: offset, etag: nil))
            guard offset == 0 || response.status == .partialContent else {
                throw CohortError(.unavailable, "the S3 store \(client.address) does not give parts of objects")
            }
            body = response.body.makeAsyncIterator()
            etag = response.headers.first(name: "etag")
            end = response.headers.first(name: "content-length").flatMap { Int($0) }.map { $0 + offset }
            sha256 = offset == 0 ? response.headers.first(name: S3Objects.hashHeader) : nil
        } catch let refusal as S3Refusal where refusal.status == 416 {
            guard let size = try await S3Objects.size(of: key, client) else { throw S3Objects.missing(key) }
            guard offset == size else { throw beyond(size) }
            // An empty rest: a body that has ended.
            body = HTTPClientResponse.Body.bytes(ByteBuffer()).makeAsyncIterator()
            etag = nil
            end = size
            sha256 = nil
        } catch let refusal as S3Refusal {
            throw refusal.isMissing ? S3Objects.missing(key) : client.error(refusal, "object \(key) cannot be read")
        }
    }

    private static func call(_ key: String, from offset: Int, etag: String?) -> S3Call {
        var call = S3Call(key: key, purpose: "object \(key) cannot be read")
        if offset > 0 { call.headers.append(("range", "bytes=\(offset)-")) }
        if let etag { call.headers.append(("if-match", etag)) }
        return call
    }

    /// nil at the end.
    func next() async throws -> [UInt8]? {
        while !hasEnded, buffer.readableBytes < Self.chunk {
            if var part = try await part() { buffer.writeBuffer(&part) } else { hasEnded = true }
        }
        guard let chunk = buffer.readBytes(length: min(buffer.readableBytes, 1 << 20)), !chunk.isEmpty else {
            if let sha256, digest.finalize().hexadecimal != sha256 {
                throw CohortError(.internal, "the object \(key) is damaged: its bytes do not match the SHA-256 that it was stored with")
            }
            return nil
        }
        buffer.discardReadBytes()
        if sha256 != nil { digest.update(data: chunk) }
        return chunk
    }

    private func part() async throws -> ByteBuffer? {
        var backoff = Backoff(first: 0.1, longest: 5)
        for attempt in 1... {
            do {
                if attempt > 1 {
                    let response = try await client.open(Self.call(key, from: offset, etag: etag))
                    guard offset == 0 || response.status == .partialContent else {
                        throw CohortError(.internal, "the S3 store \(client.address) does not give parts of objects")
                    }
                    body = response.body.makeAsyncIterator()
                }
                let part = try await body.next()
                // A cancelled task ends a body early, without an error.
                try Task.checkCancellation()
                guard let part else {
                    guard let end, offset < end else { return nil }
                    throw CohortError(.unavailable, "object \(key) ended after \(offset) of \(end) bytes")
                }
                offset += part.readableBytes
                return part
            } catch let refusal as S3Refusal {
                throw refusal.status == 412 || refusal.isMissing
                    ? CohortError(.unavailable, "object \(key) was replaced while it was read")
                    : client.error(refusal, "object \(key) cannot be read")
            } catch {
                let failure = client.unreachable(error)
                guard attempt < 5, !(failure is CancellationError) else { throw failure }
                try await Task.sleep(for: backoff.next())
            }
        }
        return nil
    }
}
