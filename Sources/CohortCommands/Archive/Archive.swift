import CohortCore
import CohortSession
import CohortSystem
import Crypto
import FoundationEssentials
import SystemPackage

/// Everything that a server keeps, in a folder: `documents.ndjson` and `objects.ndjson` (a line each), `objects/KEY`, and `manifest.json`, written
/// last. It holds password hashes and people's data, so it is its owner's alone.
struct Archive {
    static let format = "cohort-archive/1"

    /// A line of `documents.ndjson`.
    enum Document: Codable, Hashable {
        case user(User)
        case token(JoinToken)
        case signIn(SignIn)
        case peer(Peer)
        case deletedPeer(DeletedPeer)
        case session(RecordedSession)

        /// The document's name in errors.
        var name: String {
            switch self {
            case .user(let user): "the user \(user.email)"
            case .token(let token): "the join token \(token.id)"
            case .signIn(let signIn): "the sign-in \(signIn.id)"
            case .peer(let peer): "the peer \(peer.name) (\(peer.id))"
            case .deletedPeer(let peer): "the deleted peer \(peer.id)"
            case .session(let recorded): "session \(recorded.session.id)"
            }
        }
    }

    /// A session with its records.
    struct RecordedSession: Codable, Hashable {
        var session: Session
        var rounds: [RoundSummary]
        var answers: [RecordedAnswer]
        var points: [MetricPoint]
    }

    /// The number of documents of each kind.
    struct Counts: Codable, Equatable {
        var users = 0
        var tokens = 0
        /// nil: none; archives of before have no such field.
        var signIns: Int?
        var peers = 0
        var deletedPeers = 0
        var sessions = 0
        var rounds = 0
        var answers = 0
        var points = 0

        mutating func add(_ document: Document) {
            switch document {
            case .user: users += 1
            case .token: tokens += 1
            case .signIn: signIns = (signIns ?? 0) + 1
            case .peer: peers += 1
            case .deletedPeer: deletedPeers += 1
            case .session(let recorded):
                sessions += 1
                rounds += recorded.rounds.count
                answers += recorded.answers.count
                points += recorded.points.count
            }
        }
    }

    /// A line of `objects.ndjson`.
    typealias Object = ObjectReference

    struct Manifest: Codable {
        var format: String
        var version: String
        var createdAt: Date
        var documents: Counts
        var documentsSha256: String
        var objects: Int
        var objectBytes: Int
        var objectsSha256: String
    }

    let path: String

    var documentsFile: String { "\(path)/documents.ndjson" }
    var objectsFile: String { "\(path)/objects.ndjson" }
    var manifestFile: String { "\(path)/manifest.json" }

    /// - Throws: ``CohortError`` `invalid` for a key that leads elsewhere.
    func file(of key: String) throws -> String { "\(path)/objects/\(try ObjectKey(key).text)" }

    /// - Throws: ``CohortError`` `invalid` for a folder that is no finished archive.
    func manifest() throws -> Manifest {
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(filePath: manifestFile))
        } catch {
            throw CohortError(.invalid, "\(path) is no archive that `cohort export` has finished: \(manifestFile) cannot be read")
        }
        let manifest: Manifest
        do {
            manifest = try CohortJSON.decode(Manifest.self, from: bytes)
        } catch let error as CohortError {
            throw CohortError(.invalid, "\(manifestFile) cannot be read: \(error.message)")
        }
        guard manifest.format == Self.format else {
            throw CohortError(
                .invalid, "\(path) is of the format '\(manifest.format.printable(max: 40))'; this version of Cohort reads \(Self.format)")
        }
        return manifest
    }
}

/// JSON, a line each, to a file that others may not read; counts and hashes.
final class LinesFile {
    private let path: String
    private let descriptor: FileDescriptor
    private var buffer: [UInt8] = []
    private var hash = SHA256()

    init(_ path: String) throws {
        self.path = path
        descriptor = try archiving(path) {
            try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerRead, .ownerWrite])
        }
    }

    func add(_ value: some Encodable) throws {
        let line = try CohortJSON.encode(value)
        buffer += line
        buffer.append(UInt8(ascii: "\n"))
        if buffer.count >= 1 << 16 { try flush() }
    }

    private func flush() throws {
        hash.update(data: buffer)
        _ = try archiving(path) { try descriptor.writeAll(buffer) }
        buffer.removeAll(keepingCapacity: true)
    }

    /// Safe on the disk when it returns.
    /// - Returns: the SHA-256 of the file.
    func finish() throws -> String {
        try flush()
        try archiving(path) { try descriptor.synchronizeAndClose() }
        return hash.finalize().hexadecimal
    }

    /// Reads the documents that ``add(_:)`` has written, one by one.
    /// - Throws: ``CohortError`` `invalid` when the file's SHA-256 is another, or naming the line that cannot be read.
    static func read<Value: Decodable>(
        _ type: Value.Type, at path: String, sha256: String, _ body: (Value) async throws -> Void
    ) async throws {
        guard try hash(of: path) == sha256 else {
            throw CohortError(.invalid, "\(path) has another SHA-256 than manifest.json says: the archive is damaged")
        }
        var number = 0
        var rest: [UInt8] = []
        func append(_ line: ArraySlice<UInt8>) async throws {
            number += 1
            let value: Value
            do {
                value = try CohortJSON.decode(type, from: Data(line))
            } catch let error as CohortError {
                throw CohortError(.invalid, "line \(number) of \(path) cannot be read: \(error.message)")
            }
            try await body(value)
        }
        let file = try ArchivedFile(path)
        while let chunk = try file.next() {
            rest += chunk
            var start = rest.startIndex
            while let end = rest[start...].firstIndex(of: UInt8(ascii: "\n")) {
                try await append(rest[start..<end])
                start = end + 1
            }
            rest.removeSubrange(..<start)
        }
        if !rest.isEmpty { try await append(rest[...]) }
    }

    static func hash(of path: String) throws -> String {
        let file = try ArchivedFile(path)
        var hash = SHA256()
        while let chunk = try file.next() { hash.update(data: chunk) }
        return hash.finalize().hexadecimal
    }
}

/// A file of an archive, read in chunks of 1 MiB.
final class ArchivedFile {
    private let path: String
    private let descriptor: FileDescriptor

    init(_ path: String) throws {
        self.path = path
        descriptor = try archiving(path) { try FileDescriptor.open(FilePath(path), .readOnly) }
    }

    deinit { try? descriptor.close() }  // Only read from.

    /// nil at the end.
    func next() throws -> [UInt8]? {
        let descriptor = descriptor
        let chunk = try archiving(path) {
            try [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in
                count = try descriptor.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        }
        return chunk.isEmpty ? nil : chunk
    }
}

/// An error of the system becomes a sentence that names the file.
func archiving<Value>(_ path: String, _ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch let error as Errno {
        throw CohortError(error == .noSpace ? .storageFull : .invalid, "\(path): \(error)")
    }
}

extension FileDescriptor {
    func synchronizeAndClose() throws {
        let result = fsync(rawValue)
        let failure = Errno(rawValue: errno)
        try close()
        if result != 0 { throw failure }
    }
}

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif
