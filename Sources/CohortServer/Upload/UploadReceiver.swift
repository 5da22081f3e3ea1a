import CohortCore
import FoundationEssentials
import Hummingbird
import NIOCore
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Takes a form with one file: fields in memory, the file to disk as it comes. Memory stays flat, and a slow disk slows the sender down.
struct UploadReceiver: Sendable {
    struct Form: Sendable {
        var fields: [String: String]
        /// Whole, on disk.
        var path: String
        var filename: String
    }

    private static let longestField = 64 << 10

    let folder: String
    /// Bytes of the file.
    let limit: Int
    private let disk = BlockingLanes("uploads", count: 2)

    /// Makes the folder, and removes parts of uploads that a process which is gone never finished: nobody was told that they are there.
    init(folder: String, limit: Int) throws {
        self.folder = folder
        self.limit = limit
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name.hasSuffix(".part") {
                try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
            }
        } catch {
            throw CohortError(.invalid, "the folder \(folder) cannot be used for uploads: \(error)")
        }
    }

    /// Removes whole uploads that no unfinished session names: their start was cut short, and nobody was told of them.
    /// - Returns: how many.
    func removeStrays(documents: any Documents) async throws -> Int {
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".csv") }
        guard !names.isEmpty else { return 0 }
        var wanted: Set<String> = []
        for id in try await documents.unfinishedSessions() {
            // A session that cannot be read may name any of them.
            guard let session = try await documents.session(id: id) else { continue }
            if let path = session.uploadPath { wanted.insert(path.split(separator: "/").last.map(String.init) ?? "") }
        }
        let strays = names.filter { !wanted.contains($0) }
        for name in strays { try FileManager.default.removeItem(atPath: "\(folder)/\(name)") }
        return strays.count
    }

    /// - Parameter check: called when the file begins, with the fields before it: a form that cannot be is refused before a long upload.
    /// - Throws: ``CohortError`` `invalid` for a form that is not as it must be, `tooLarge`, `storageFull`.
    func receive(_ request: Request, check: @Sendable ([String: String]) throws -> Void) async throws -> Form {
        if let length = request.contentLength, length > limit + (1 << 20) { throw tooLarge }
        var parser = try MultipartParser(contentType: request.headers[.contentType])
        var form = Form(fields: [:], path: "\(folder)/\(newIdentifier()).csv", filename: "")
        let part = "\(form.path).part"
        var file: SystemPackage.FileDescriptor?
        var written = 0
        var current: MultipartParser.Part?
        var field = ByteBuffer()
        do {
            for try await chunk in request.body {
                for event in try parser.feed(chunk) {
                    switch event {
                    case .began(let part_):
                        current = part_
                        field.clear()
                        guard part_.name == "file" else {
                            guard form.fields[part_.name] == nil else {
                                throw CohortError(.invalid, "the field '\(part_.name.prefix(60))' is there twice")
                            }
                            continue
                        }
                        guard file == nil else { throw CohortError(.invalid, "the form has two files; send one CSV in the field 'file'") }
                        try check(form.fields)
                        form.filename = String((part_.filename ?? "").prefix(200))
                        file = try await open(part)
                    case .body(let bytes):
                        if current?.name == "file", let file {
                            written += bytes.readableBytes
                            guard written <= limit else { throw tooLarge }
                            try await write(bytes, to: file, part)
                        } else {
                            field.writeImmutableBuffer(bytes)
                            guard field.readableBytes <= Self.longestField else {
                                throw CohortError(
                                    .tooLarge, "the field '\(current?.name.prefix(60) ?? "")' is longer than \(Self.longestField) bytes")
                            }
                        }
                    case .ended:
                        if let name = current?.name, name != "file" { form.fields[name] = String(buffer: field) }
                    }
                }
            }
            try parser.end()
            guard let file else { throw CohortError(.invalid, "the form has no file; send the CSV in the field 'file'") }
            guard written > 0 else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
            try await finish(file, part, form.path)
            return form
        } catch {
            if let file {
                try? await disk.run { try file.close() }  // It goes away, whether that works or not.
                unlinkQuietly(part)
            }
            if error is CohortError || error is CancellationError || error is HTTPProblem { throw error }
            throw CohortError(.invalid, "the upload broke off before its end: send it again")
        }
    }

    private var tooLarge: CohortError {
        CohortError(.tooLarge, "the file is larger than \(limit) bytes; the server's COHORT_UPLOAD_LIMIT sets that")
    }

    private func open(_ path: String) async throws -> SystemPackage.FileDescriptor {
        try await disk.run {
            try storing(path) {
                try SystemPackage.FileDescriptor.open(
                    FilePath(path), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: [.ownerRead, .ownerWrite])
            }
        }
    }

    private func write(_ bytes: ByteBuffer, to file: SystemPackage.FileDescriptor, _ path: String) async throws {
        try await disk.run { _ = try storing(path) { try file.writeAll(bytes.readableBytesView) } }
    }

    private func finish(_ file: SystemPackage.FileDescriptor, _ part: String, _ path: String) async throws {
        try await disk.run {
            try storing(path) {
                // Durable before a document names it: after a power cut a session has the whole file, or there is no session.
                guard fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
                try file.close()
                guard rename(part, path) == 0 else { throw Errno(rawValue: errno) }
                let folder = try SystemPackage.FileDescriptor.open(FilePath(folder), .readOnly, options: .closeOnExec)
                defer { try? folder.close() }
                guard fsync(folder.rawValue) == 0 else { throw Errno(rawValue: errno) }
            }
        }
    }

    private func unlinkQuietly(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
}

/// Says a full disk as such.
private func storing<Value>(_ path: String, _ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch let error as Errno where error == .noSpace || error == .diskQuotaExceeded {
        throw CohortError(.storageFull, "the server's disk is full: the upload could not be stored")
    } catch {
        throw CohortError(.internal, "\(path) cannot be written: \(error)")
    }
}
