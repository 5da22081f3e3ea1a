import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import SystemPackage

/// A session's CSV as a file of this machine: the object store's own where it lies here, else a copy, which goes with this value.
final class DataFile: Sendable {
    let path: String
    private let isCopy: Bool

    fileprivate init(path: String, isCopy: Bool) {
        self.path = path
        self.isCopy = isCopy
    }

    deinit {
        if isCopy { try? FileManager.default.removeItem(atPath: path) }  // A coordinator's start removes what is left over.
    }
}

/// Gets a session's CSV, once for all who read it. Blocks its own thread.
actor DataFileLoader {
    private static let prefix = "cohort-copy-"

    private let executor: ThreadExecutor
    private let objects: any ObjectStore
    /// The folder for copies.
    private let folder: String
    private var file: DataFile?

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(_ objects: any ObjectStore, folder: String, on executor: ThreadExecutor) {
        self.objects = objects
        self.folder = folder
        self.executor = executor
    }

    /// - Throws: ``CohortError`` `notFound` when there is no such object, `internal` when its bytes are not those that were stored,
    ///   `storageFull` when the copy cannot be written.
    func file(of reference: ObjectReference) async throws -> DataFile {
        if let file { return file }
        let loaded: DataFile
        if let path = try await objects.localFile(of: reference.key) {
            loaded = DataFile(path: path, isCopy: false)
        } else {
            loaded = try await copy(reference)
        }
        file = loaded
        return loaded
    }

    /// Releases the copy, which is removed with its last reader.
    func release() { file = nil }

    private func copy(_ reference: ObjectReference) async throws -> DataFile {
        let copy = DataFile(path: "\(folder)/\(Self.prefix)\(newIdentifier()).csv", isCopy: true)
        var digest = SHA256()
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            let file = try FileDescriptor.open(
                FilePath(copy.path), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
                permissions: [.ownerRead, .ownerWrite])
            // Every write has been answered for; the file is read again from its start.
            defer { try? file.close() }
            for try await chunk in try await objects.read(reference.key, from: 0) {
                digest.update(data: chunk)
                _ = try file.writeAll(chunk)
            }
        } catch let error as CohortError {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw CohortError(.storageFull, "the data set could not be copied to \(folder): \(error)")
        }
        guard digest.finalize().hexadecimal == reference.sha256 else {
            throw CohortError(.internal, "the object \(reference.key) is damaged: its bytes do not match its SHA-256")
        }
        return copy
    }

    /// Removes copies that a process which is gone has left in `folder`. Only one process uses it.
    static func sweep(_ folder: String) throws {
        guard FileManager.default.fileExists(atPath: folder) else { return }
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name.hasPrefix(prefix) {
            try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
        }
    }
}
