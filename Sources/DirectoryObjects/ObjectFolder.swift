import CohortCore
import FoundationEssentials
import Synchronization

/// The files of the store. Every method blocks.
///
/// An object `a/b.csv` is two entries of the folder `a`: its bytes in a hidden file `.b.csv.SHA256.SIZE`, and a symbolic link `b.csv`
/// to it. So the link is what makes the object be there, and what it points to is what it was stored as: one rename replaces both
/// at once, nothing has to agree with anything, and `b.csv` opens in every program as the plain bytes. What is being written lies in `.tmp`.
struct ObjectFolder: Sendable {
    let root: String
    private let locks = KeyLocks()
    /// Locked while this process has the folder.
    private let temporaryFolder: OpenFile

    /// The file of a key.
    struct Stored: Sendable {
        /// The path of the file with the bytes.
        var path: String
        var reference: ObjectReference
    }

    init(root: String) throws {
        self.root = root
        let temporary = "\(root)/.tmp"
        do {
            try Files.makeFolders(temporary)
            try Files.requireWritable(temporary)
            temporaryFolder = try OpenFile.reading(temporary)
            let isOwner = temporaryFolder.lock()
            // What a process that died was writing; it never was an object. Where another has the folder, younger files may be its work.
            for name in try FileManager.default.contentsOfDirectory(atPath: temporary) {
                guard let status = try Files.status("\(temporary)/\(name)"), isOwner || status.age > 86_400 else { continue }
                try Files.remove("\(temporary)/\(name)")
            }
        } catch let failure as FileFailure {
            throw failure.error(object: "the object folder", bytes: 0)
        }
    }

    /// A path for something unfinished, in the file system of the objects.
    func temporaryPath() -> String { "\(root)/.tmp/\(UUID().uuidString)" }

    func stored(_ key: ObjectKey) throws(FileFailure) -> Stored? {
        guard let target = try Files.linkTarget("\(root)/\(key.text)"), let label = Label(target, name: key.name) else { return nil }
        return Stored(
            path: path(of: target, beside: key), reference: ObjectReference(key: key.text, sha256: label.sha256, bytes: label.bytes))
    }

    /// Opens the bytes of an object; they stay readable through a replacement.
    func open(_ key: ObjectKey) throws -> (file: OpenFile, reference: ObjectReference) {
        // A replacement between the look at the link and the opening takes the file away; then the link says another.
        for _ in 0..<100 {
            guard let stored = try self.stored(key) else { throw CohortError.noObject(key) }
            if let file = try OpenFile.readingIfThere(stored.path) { return (file, stored.reference) }
        }
        throw CohortError(.internal, "the bytes of object \(key.text) are missing in \(root): store it again")
    }

    /// Makes the finished and synchronized file at `temporary` the object, atomically and durably. When that fails, the file stays there.
    /// - Parameters:
    ///   - isWanted: asked with the key locked; when it is not, nothing happens.
    ///   - then: called with the key still locked.
    func commit(
        _ temporary: String, as reference: ObjectReference, key: ObjectKey, isWanted: () -> Bool = { true }, then: () -> Void = {}
    ) throws {
        let name = Label(sha256: reference.sha256, bytes: reference.bytes).fileName(of: key)
        try makeFolders(of: key)
        try locks.withLock(of: key) {
            guard isWanted() else { return }
            let old = try stored(key)?.path
            let new = path(of: name, beside: key)
            try Files.rename(temporary, to: new)
            // The same bytes: the link exists already, and readers of its path continue.
            if old != new {
                let link = temporaryPath()
                do {
                    try Files.makeLink(link, to: name)
                    try Files.rename(link, to: "\(root)/\(key.text)")
                } catch {
                    try Files.remove(link)
                    try Files.rename(new, to: temporary)
                    throw error
                }
            }
            try Files.synchronizeFolder(folder(of: key))
            if let old, old != new { try Files.remove(old) }
            then()
        }
    }

    /// - Throws: the first failure, once all were tried.
    func delete(_ keys: [ObjectKey]) throws {
        var failure: (any Error)?
        var orphans: [String: [String]] = [:]
        for key in keys {
            do {
                try locks.withLock(of: key) {
                    guard let old = try stored(key)?.path else { return }
                    try Files.remove("\(root)/\(key.text)")
                    orphans[folder(of: key), default: []].append(old)
                }
            } catch {
                failure = failure ?? error
            }
        }
        // First the links for good, then the bytes: after a power cut there is no object without its bytes.
        for (folder, files) in orphans {
            do {
                try Files.synchronizeFolder(folder)
                for file in files { try Files.remove(file) }
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    func keys(prefix: String) throws -> [String] {
        try ObjectKey.check(prefix: prefix)
        let parts = prefix.split(separator: "/", omittingEmptySubsequences: false)
        var keys: [String] = []
        var folders = [parts.dropLast().joined(separator: "/")]
        while let folder = folders.popLast() {
            guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder.isEmpty ? root : "\(root)/\(folder)") else {
                continue
            }
            for name in names where !name.hasPrefix(".") {
                let text = folder.isEmpty ? name : "\(folder)/\(name)"
                guard text.hasPrefix(prefix) || prefix.hasPrefix(text), let key = try? ObjectKey(text) else { continue }
                if try stored(key) != nil {
                    if text.hasPrefix(prefix) { keys.append(text) }
                } else {
                    folders.append(text)
                }
            }
        }
        return keys.sorted()
    }

    private func folder(of key: ObjectKey) -> String { key.folder.isEmpty ? root : "\(root)/\(key.folder)" }

    private func path(of file: String, beside key: ObjectKey) -> String { "\(folder(of: key))/\(file)" }

    private func makeFolders(of key: ObjectKey) throws(FileFailure) {
        var path = root
        for part in key.folder.split(separator: "/") {
            let parent = path
            path += "/\(part)"
            if try Files.makeFolder(path) { try Files.synchronizeFolder(parent) }
        }
    }
}

/// The parts of the name of a file with an object's bytes.
private struct Label {
    var sha256: String
    var bytes: Int

    init(sha256: String, bytes: Int) {
        self.sha256 = sha256
        self.bytes = bytes
    }

    init?(_ fileName: String, name: String) {
        guard fileName.hasPrefix(".\(name).") else { return nil }
        let parts = fileName.dropFirst(name.count + 2).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].utf8.count == 64, let bytes = Int(parts[1]), bytes >= 0 else { return nil }
        sha256 = String(parts[0])
        self.bytes = bytes
    }

    func fileName(of key: ObjectKey) -> String { ".\(key.name).\(sha256).\(bytes)" }
}

/// Orders changes of the same key within this process, the one that owns the folder.
private final class KeyLocks: Sendable {
    private final class Lock: Sendable {
        let mutex = Mutex(())
    }

    private let locks = (0..<16).map { _ in Lock() }

    func withLock(of key: ObjectKey, _ change: () throws -> Void) throws {
        try locks[key.hashValue & 15].mutex.withLock { _ in try change() }
    }
}

extension CohortError {
    static func noByte(at offset: Int, of object: ObjectReference) -> CohortError {
        CohortError(.invalid, "object \(object.key) has \(object.bytes) bytes; there is nothing at \(offset)")
    }

    static func noObject(_ key: ObjectKey) -> CohortError { CohortError(.notFound, "there is no object \(key.text)") }
}
