import AsyncHTTPClient
public import CohortCore
import CohortSystem
import Crypto
public import FoundationEssentials
public import Logging
import NIOCore
import NIOHTTP1

/// The object store in a bucket of Amazon S3 or of what speaks its API.
///
/// Peers get presigned links and never credentials. S3 cannot end a link before its expiry, nor bound what is put by one, nor refuse other
/// bytes under the same key: readers of an update check its length and its hash.
public final class S3Objects: ObjectStore {
    /// The metadata with the SHA-256 of objects that were put in one request.
    static let hashHeader = "x-amz-meta-sha256"
    /// The API takes as many keys in one call.
    private static let deletesAtOnce = 1_000

    public let bucket: String
    private let client: S3Client

    /// - Parameter environment: where credentials and the region are named, as Amazon's tools do.
    /// - Throws: ``CohortError`` `invalid` for a CA file or credentials that cannot be used.
    public init(
        _ address: S3Address, environment: [String: String], now: @escaping @Sendable () -> Date = { Date() }, logger: Logger
    ) throws {
        client = try S3Client(address, environment: environment, now: now, logger: logger)
        bucket = address.prefix.isEmpty ? address.bucket : "\(address.bucket)/\(address.prefix.dropLast())"
    }

    public func close() async throws {
        do { try await client.http.shutdown() } catch { client.logger.debug("closing the S3 connections: \(error)") }
    }

    public func ready() async throws {
        let call = S3Call(
            query: [("list-type", "2"), ("max-keys", "1"), ("prefix", client.address.prefix)], purpose: "the object store is not ready")
        do {
            _ = try await client.ask(call)
        } catch let refusal as S3Refusal where refusal.code == "NoSuchBucket" && client.address.creates {
            try await makeBucket()
        } catch {
            throw client.error(error, call.purpose)
        }
    }

    private func makeBucket() async throws {
        let purpose = "the bucket '\(client.address.bucket)' could not be created"
        let place =
            client.region == "us-east-1"
            ? ""
            : "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>\(client.region)</LocationConstraint></CreateBucketConfiguration>"
        do {
            _ = try await client.send(S3Call(method: "PUT", body: ByteBuffer(string: place), purpose: purpose))
            client.logger.notice("made the bucket '\(client.address.bucket)'")
        } catch let refusal as S3Refusal where ["BucketAlreadyOwnedByYou", "BucketAlreadyExists"].contains(refusal.code) {
            // Another server was quicker.
        } catch {
            throw client.error(error, purpose)
        }
    }

    public func writer(key: String) async throws -> any ObjectWriter {
        S3Writer(key: try ObjectKey(key).text, client: client)
    }

    public func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference {
        let writer = try await writer(key: key)
        do {
            try await writer.write(bytes)
            return try await writer.finish()
        } catch {
            await writer.abort()
            throw error
        }
    }

    public func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error> {
        let reading = try await S3Reading(try ObjectKey(key).text, from: offset, client: client)
        return AsyncThrowingStream { try await reading.next() }
    }

    public func get(_ key: String) async throws -> [UInt8] {
        let reading = try await S3Reading(try ObjectKey(key).text, from: 0, client: client)
        var bytes: [UInt8] = []
        while let chunk = try await reading.next() { bytes += chunk }
        return bytes
    }

    public func size(of key: String) async throws -> Int? { try await Self.size(of: try ObjectKey(key).text, client) }

    static func size(of key: String, _ client: S3Client) async throws -> Int? {
        let purpose = "object \(key) could not be inspected"
        do {
            let head = try await client.send(S3Call(method: "HEAD", key: key, purpose: purpose)).head
            guard let size = head.first(name: "content-length").flatMap({ Int($0) }) else {
                throw CohortError(.unavailable, "\(purpose): the store does not say how many bytes it has")
            }
            return size
        } catch let refusal as S3Refusal where refusal.isMissing {
            return nil
        } catch {
            throw client.error(error, purpose)
        }
    }

    static func missing(_ key: String) -> CohortError { CohortError(.notFound, "there is no object '\(key)'") }

    public func localFile(of key: String) async throws -> String? {
        guard try await size(of: key) != nil else { throw Self.missing(key) }
        return nil
    }

    public func list(prefix: String) async throws -> [String] {
        try ObjectKey.check(prefix: prefix)
        let purpose = "objects could not be listed"
        let base = client.address.prefix
        var keys: [String] = []
        var token: String?
        repeat {
            var query = [("list-type", "2"), ("prefix", base + prefix)]
            if let token { query.append(("continuation-token", token)) }
            let page: S3Answer
            do {
                page = try await client.ask(S3Call(query: query, purpose: purpose))
            } catch {
                throw client.error(error, purpose)
            }
            keys += page.all("Contents").compactMap { $0["Key"] }.filter { $0.hasPrefix(base) }.map { String($0.dropFirst(base.count)) }
            let next = page["NextContinuationToken"]
            guard page["IsTruncated"] != "true" || (next != nil && next != token) else {
                throw CohortError(.unavailable, "\(purpose): \(client.address) does not say how its list goes on")
            }
            token = page["IsTruncated"] == "true" ? next : nil
        } while token != nil
        return keys.sorted()
    }

    public func delete(_ keys: [String]) async throws {
        let keys = try keys.map { try ObjectKey($0).text }
        var failure: (any Error)?
        var rest = keys[...]
        while !rest.isEmpty {
            let some = rest.prefix(Self.deletesAtOnce)
            rest = rest.dropFirst(some.count)
            do { try await deleteSome(some) } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
    }

    private func deleteSome(_ keys: ArraySlice<String>) async throws {
        let purpose = "\(keys.count == 1 ? "object \(keys.first ?? "")" : "\(keys.count) objects") could not be deleted"
        // Keys are of letters, digits and a few signs, none of them XML's.
        let list = keys.map { "<Object><Key>\(client.address.prefix)\($0)</Key></Object>" }.joined()
        let body = "<Delete><Quiet>true</Quiet>\(list)</Delete>"
        let md5 = Data(Insecure.MD5.hash(data: Data(body.utf8))).base64EncodedString()
        do {
            let answer = try await client.ask(
                S3Call(
                    method: "POST", query: [("delete", "")], headers: [("content-md5", md5)], body: ByteBuffer(string: body),
                    purpose: purpose))
            if let error = answer.all("Error").first(where: { $0["Code"] != "NoSuchKey" }) {
                throw S3Refusal(status: 403, code: error["Code"] ?? "", message: "\(error["Key"] ?? ""): \(error["Message"] ?? "")")
            }
        } catch {
            throw client.error(error, purpose)
        }
    }

    public func presignedGet(_ key: String, scope: String?, expiry: Date) async throws -> String {
        try await client.presigned("GET", try ObjectKey(key).text, expiry: expiry)
    }

    public func presignedPut(_ key: String, maxBytes: Int, expiry: Date) async throws -> String {
        try await client.presigned("PUT", try ObjectKey(key).text, expiry: expiry)
    }

    /// They end at their expiry.
    public func closeLinks(prefix: String) async throws {}

    public func closeLinks(scope: String) async throws {}

    public func removeUnfinished(before date: Date) async throws {
        for upload in try await unfinished() where upload.begun < date {
            let purpose = "the parts of \(upload.key), whose upload was cut short, could not be removed"
            do {
                _ = try await client.send(S3Call(method: "DELETE", key: upload.key, query: [("uploadId", upload.id)], purpose: purpose))
                client.logger.notice("removed the parts of \(upload.key), whose upload was cut short")
            } catch let refusal as S3Refusal where refusal.code == "NoSuchUpload" {
                continue
            } catch {
                throw client.error(error, purpose)
            }
        }
    }

    /// Multipart uploads that were neither completed nor aborted.
    func unfinished() async throws -> [(key: String, id: String, begun: Date)] {
        let purpose = "unfinished uploads could not be listed"
        let base = client.address.prefix
        var uploads: [(key: String, id: String, begun: Date)] = []
        var marker: [(String, String)] = []
        while true {
            let page: S3Answer
            do {
                page = try await client.ask(S3Call(query: [("uploads", ""), ("prefix", base)] + marker, purpose: purpose))
            } catch {
                throw client.error(error, purpose)
            }
            for upload in page.all("Upload") {
                guard let key = upload["Key"], key.hasPrefix(base), let own = try? ObjectKey(String(key.dropFirst(base.count))),
                    let id = upload["UploadId"], let begun = upload["Initiated"].flatMap(Self.date)
                else { continue }  // Another program's.
                uploads.append((own.text, id, begun))
            }
            guard page["IsTruncated"] == "true", let key = page["NextKeyMarker"], let id = page["NextUploadIdMarker"] else {
                return uploads
            }
            marker = [("key-marker", key), ("upload-id-marker", id)]
        }
    }

    private static func date(_ text: String) -> Date? {
        (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))) ?? (try? Date(text, strategy: .iso8601))
    }
}
