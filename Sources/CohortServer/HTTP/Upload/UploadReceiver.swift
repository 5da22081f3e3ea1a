import CohortCore
import CohortSession
import CohortSystem
import Hummingbird
import Logging
import NIOCore

/// Takes a form with one file: fields in memory, the file into the object store as it comes, out of the gzip or ZIP that it may be packed in. Memory
/// stays flat, and a slow store slows the sender down.
struct UploadReceiver: Sendable {
    struct Form: Sendable {
        var fields: [String: String]
        /// The file as it was stored; nil: the form names by `sha256` what was uploaded before.
        var upload: ObjectReference?
        var filename: String
    }

    private static let maxFieldBytes = 64 << 10

    let objects: any ObjectStore
    /// Bytes of the file.
    let limit: Int
    let time: any TimeSource
    let logger: Logger

    /// - Parameter check: called when the file begins, with the fields before it: an invalid form is refused before a long upload.
    /// - Returns: the form; the caller deletes its object if it is not used.
    /// - Throws: ``CohortError`` `invalid` for an invalid form, `tooLarge`, `storageFull`; then nothing is stored.
    func receive(_ request: Request, check: @Sendable ([String: String]) async throws -> Void) async throws -> Form {
        if let length = request.contentLength, length > limit + (1 << 20) { throw tooLarge }
        var parser = try MultipartParser(contentType: request.headers[.contentType])
        var fields: [String: String] = [:]
        var filename = ""
        var writer: (any ObjectWriter)?
        let unpacker = Unpacker()
        var written = 0
        func store(_ bytes: [UInt8], _ writer: any ObjectWriter) async throws {
            written += bytes.count
            guard written <= limit else { throw tooLarge }
            try await writer.write(bytes)
        }
        var current: MultipartParser.Part?
        var field = ByteBuffer()
        do {
            for try await chunk in request.body {
                for event in try parser.feed(chunk) {
                    switch event {
                    case .began(let part):
                        current = part
                        field.clear()
                        guard part.name == "file" else {
                            guard fields[part.name] == nil else {
                                throw CohortError(.invalid, "the field '\(part.name.prefix(60))' is there twice")
                            }
                            continue
                        }
                        guard writer == nil else { throw CohortError(.invalid, "the form has two files; send one CSV in the field 'file'") }
                        try await check(fields)
                        filename = Unpacker.unpackedName(String((part.filename ?? "").prefix(200)))
                        writer = try await objects.writer(key: Session.uploadKey(at: time.date))
                    case .body(let bytes):
                        if current?.name == "file", let writer {
                            if unpacker.isPlain {
                                try await store([UInt8](bytes.readableBytesView), writer)
                            } else {
                                unpacker.feed(bytes.readableBytesView)
                                while let bytes = try unpacker.next() { try await store(bytes, writer) }
                            }
                        } else {
                            field.writeImmutableBuffer(bytes)
                            guard field.readableBytes <= Self.maxFieldBytes else {
                                throw CohortError(
                                    .tooLarge, "the field '\(current?.name.prefix(60) ?? "")' is longer than \(Self.maxFieldBytes) bytes")
                            }
                        }
                    case .ended:
                        if let name = current?.name, name != "file" {
                            fields[name] = String(buffer: field)
                        } else if let writer {
                            unpacker.finish()
                            while let bytes = try unpacker.next() { try await store(bytes, writer) }
                            try unpacker.checkWhole()
                        }
                    }
                }
            }
            try parser.end()
            guard let writer else {
                guard fields["sha256"] != nil else {
                    throw CohortError(.invalid, "the form has no file; send the CSV in the field 'file'")
                }
                return Form(fields: fields, upload: nil, filename: String((fields["filename"] ?? "").prefix(200)))
            }
            guard written > 0 else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
            // Durable before a document names it: after a power cut a session has the whole file, or there is no session.
            return Form(fields: fields, upload: try await writer.finish(), filename: filename)
        } catch {
            await writer?.abort()
            if let error = error as? CohortError, error.code == .storageFull {
                // Where it lies on the server is the operator's to know.
                logger.error("an upload could not be stored: \(error)")
                throw CohortError(.storageFull, "the server's disk is full, or cannot be written to: the upload could not be stored")
            }
            if error is CohortError || error is CancellationError || error is HTTPProblem { throw error }
            throw CohortError(.invalid, "the upload broke off before its end: send it again")
        }
    }

    private var tooLarge: CohortError {
        CohortError(
            .tooLarge, "the file is larger than \(limit) bytes (unpacked, where it is packed); the server's COHORT_UPLOAD_LIMIT sets that")
    }
}
