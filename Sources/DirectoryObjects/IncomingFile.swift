import CohortCore
import CohortSystem
import Crypto
import Synchronization

/// An object on its way in: a temporary file and the digest of what was written to it. It is of one task at a time, and blocks.
/// The file goes when the value goes, unless it became the object.
struct IncomingFile {
    private let file: TemporaryFile
    private var digest = SHA256()
    private(set) var count = 0

    init(in folder: ObjectFolder) throws(FileFailure) {
        file = try TemporaryFile(folder.temporaryPath())
    }

    mutating func append(_ bytes: [UInt8]) throws(FileFailure) {
        try file.open.write(bytes)
        digest.update(data: bytes)
        count += bytes.count
    }

    /// - Parameter then: called with what was stored, before anybody else can change the object.
    func finish(as key: ObjectKey, in folder: ObjectFolder, then: (ObjectReference) -> Void) throws -> ObjectReference {
        try file.open.synchronize()
        let reference = ObjectReference(key: key.text, sha256: digest.finalize().hexadecimal, bytes: count)
        try folder.commit(file.open.path, as: reference, key: key, then: { then(reference) })
        return reference
    }
}

extension IncomingFile {
    /// Makes an object of bytes whose hash is known.
    /// - Parameter then: called before anybody else can change the object.
    static func make(
        _ bytes: [UInt8], as reference: ObjectReference, in folder: ObjectFolder, isWanted: () -> Bool, then: () -> Void
    ) throws {
        let file = try TemporaryFile(folder.temporaryPath())
        try file.open.write(bytes)
        try file.open.synchronize()
        try folder.commit(file.open.path, as: reference, key: try ObjectKey(reference.key), isWanted: isWanted, then: then)
    }
}

/// A new file, removed with its last reference; renamed before, there is nothing to remove.
private final class TemporaryFile: Sendable {
    let open: OpenFile

    init(_ path: String) throws(FileFailure) { open = try OpenFile.creating(path) }

    deinit { try? Files.remove(open.path) }
}

/// A streamed write into a ``DirectoryObjects``.
final class DirectoryObjectWriter: ObjectWriter {
    private let key: ObjectKey
    private let folder: ObjectFolder
    private let threads: BlockingLanes
    private let memory: ObjectMemory?
    /// nil once finished or aborted. A mutex rather than an actor: it is locked on the blocking threads only, by one task.
    private let incoming: Mutex<IncomingFile?>

    init(key: ObjectKey, folder: ObjectFolder, threads: BlockingLanes, memory: ObjectMemory?) throws(FileFailure) {
        self.key = key
        self.folder = folder
        self.threads = threads
        self.memory = memory
        incoming = Mutex(try IncomingFile(in: folder))
    }

    func write(_ bytes: [UInt8]) async throws {
        guard !bytes.isEmpty else { return }
        try await threads.run {
            try self.incoming.withLock { incoming in
                guard incoming != nil else { throw self.isOver }
                do {
                    try incoming?.append(bytes)
                } catch let failure as FileFailure {
                    let error = failure.error(object: self.key.text, bytes: (incoming?.count ?? 0) + bytes.count)
                    // Gives the space back at once.
                    incoming = nil
                    throw error
                }
            }
        }
    }

    func finish() async throws -> ObjectReference {
        try await threads.run {
            try self.incoming.withLock { incoming in
                guard let file = incoming else { throw self.isOver }
                incoming = nil
                do {
                    return try file.finish(as: self.key, in: self.folder, then: { _ in self.memory?.remove([self.key.text]) })
                } catch let failure as FileFailure {
                    throw failure.error(object: self.key.text, bytes: file.count)
                }
            }
        }
    }

    func abort() async {
        // Removing a file blocks as well; there is nothing to tell when it fails.
        try? await threads.run { self.incoming.withLock { $0 = nil } }
    }

    private var isOver: CohortError { CohortError(.internal, "the write of object \(key.text) has ended: begin a new one") }
}
