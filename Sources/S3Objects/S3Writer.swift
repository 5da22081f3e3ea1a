import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import Logging
import NIOCore
import NIOHTTP1

/// A streamed write into a bucket: one PUT for what fits into a part, a multipart upload for more. At most four parts are in memory.
actor S3Writer: ObjectWriter {
    private struct Part: Sendable {
        var number: Int
        var etag: String
    }

    private let key: String
    private let client: S3Client
    /// Bytes of a part: all but the last have at least 5 MiB, by S3's rules. S3 takes 10,000 parts: from the 1,001st on they are larger.
    private var partBytes: Int { started < 1_000 ? 8 << 20 : 64 << 20 }
    private static let sending = 3

    private var digest = SHA256()
    private var partDigest = SHA256()
    private var buffer = ByteBuffer()
    private var count = 0
    private var uploadId: String?
    private var started = 0
    private var parts: [Part] = []
    private var tasks: [Task<Part, any Error>] = []
    private var isOver = false

    init(key: String, client: S3Client) {
        self.key = key
        self.client = client
    }

    private var purpose: String { "object \(key) could not be stored" }

    func write(_ bytes: [UInt8]) async throws {
        guard !isOver else { throw over }
        digest.update(data: bytes)
        count += bytes.count
        var rest = bytes[...]
        while !rest.isEmpty {
            // A full part waits for a byte after it: the last part is never empty.
            if buffer.readableBytes == partBytes { try await end(orAbort: sendPart) }
            let some = rest.prefix(partBytes - buffer.readableBytes)
            some.withUnsafeBytes { partDigest.update(bufferPointer: $0) }
            buffer.writeBytes(some)
            rest = rest.dropFirst(some.count)
        }
    }

    func finish() async throws -> ObjectReference {
        guard !isOver else { throw over }
        let sha256 = digest.finalize().hexadecimal
        try await end(orAbort: { try await self.store(sha256) })
        isOver = true
        buffer = ByteBuffer()
        return ObjectReference(key: key, sha256: sha256, bytes: count)
    }

    func abort() async {
        guard !isOver else { return }
        isOver = true
        buffer = ByteBuffer()
        for task in tasks { task.cancel() }
        for task in tasks { _ = await task.result }
        tasks = []
        guard let uploadId else { return }
        // Unstructured: not cancelled with the task that writes. The sweep removes what is left.
        let call = S3Call(
            method: "DELETE", key: key, query: [("uploadId", uploadId)], purpose: "the parts of object \(key) could not be removed")
        await Task { [client] in
            do { _ = try await client.send(call) } catch { client.logger.info("\(client.error(error, call.purpose))") }
        }.value
    }

    private var over: CohortError { CohortError(.internal, "the write of object \(key) has ended: begin a new one") }

    private func end(orAbort work: () async throws -> Void) async throws {
        do {
            try await work()
        } catch {
            await abort()
            throw client.error(error, purpose)
        }
    }

    private func store(_ sha256: String) async throws {
        guard let uploadId else {
            let call = S3Call(
                method: "PUT", key: key, headers: [(S3Objects.hashHeader, sha256)], body: buffer, payload: sha256, purpose: purpose)
            _ = try await client.send(call)
            return
        }
        try await sendPart()
        while !tasks.isEmpty { parts.append(try await tasks.removeFirst().value) }
        let list = parts.map { "<Part><PartNumber>\($0.number)</PartNumber><ETag>\($0.etag)</ETag></Part>" }.joined()
        let call = S3Call(
            method: "POST", key: key, query: [("uploadId", uploadId)],
            body: ByteBuffer(string: "<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>"), purpose: purpose)
        do {
            let answer = try await client.ask(call)
            // The status is sent before the work is done: a failure may come in the body of a 200.
            guard answer.name != "Error" else {
                throw S3Refusal(status: 500, code: answer["Code"] ?? "", message: answer["Message"] ?? "")
            }
        } catch let refusal as S3Refusal where refusal.code == "NoSuchUpload" {
            // Done by a try whose answer was lost?
            guard try await S3Objects.size(of: key, client) == count else { throw refusal }
        }
    }

    /// Sends what is in the buffer, beside those that are on their way.
    private func sendPart() async throws {
        let id: String
        if let uploadId {
            id = uploadId
        } else {
            let answer = try await client.ask(S3Call(method: "POST", key: key, query: [("uploads", "")], purpose: purpose))
            guard let fresh = answer["UploadId"], !fresh.isEmpty else {
                throw CohortError(.unavailable, "\(purpose): \(client.address) began no multipart upload")
            }
            uploadId = fresh
            id = fresh
        }
        while tasks.count >= Self.sending { parts.append(try await tasks.removeFirst().value) }
        started += 1
        let number = started
        let call = S3Call(
            method: "PUT", key: key, query: [("partNumber", "\(number)"), ("uploadId", id)], body: buffer,
            payload: partDigest.finalize().hexadecimal, purpose: purpose)
        buffer = ByteBuffer()
        partDigest = SHA256()
        // Unstructured: a part is sent between two calls of `write`, while the next one is filled.
        tasks.append(
            Task { [client] in
                guard let etag = try await client.send(call).head.first(name: "etag") else {
                    throw CohortError(.unavailable, "\(call.purpose): the store gave part \(number) no ETag")
                }
                return Part(number: number, etag: etag)
            })
    }
}
