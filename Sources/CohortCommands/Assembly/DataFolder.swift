import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A data folder in the hands of one process: made with mode 0700, locked until the process ends, however it ends.
final class DataFolder: Sendable {
    let path: String
    private let descriptor: Int32

    /// - Throws: ``CohortError`` `conflict` when another process has it, `invalid` when it cannot be made or written to.
    init(path: String, of what: String) throws {
        if let why = createPrivateFolder(path) { throw CohortError(.invalid, "the data folder \(path) could not be created: \(why)") }
        let lock = "\(path)/lock"
        let descriptor = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CohortError(.invalid, "the data folder \(path) cannot be written to: \(Errno(rawValue: errno))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw CohortError(
                .conflict, "another \(what) is running on the data folder \(path): stop it, or choose another folder with --data-dir")
        }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// A value made once and kept: 32 random bytes in `name`, mode 0600.
    func secret(_ name: String) throws -> [UInt8] {
        let file = FilePath("\(path)/\(name)")
        // Only a file that is not there is made: one that cannot be read is not replaced, or all links and leases end.
        if FileManager.default.fileExists(atPath: file.string) {
            let bytes: Data
            do {
                bytes = try Data(contentsOf: URL(filePath: file.string))
            } catch {
                throw CohortError(.invalid, "\(file) cannot be read: \(error). Give this user the right to, or put it back from a backup")
            }
            guard bytes.count == 32 else {
                throw CohortError(
                    .invalid,
                    "\(file) is damaged (\(bytes.count) bytes instead of 32): put it back from a backup, or move it away to have a new one made"
                )
            }
            return [UInt8](bytes)
        }
        let secret = SymmetricKey(size: .bits256).withUnsafeBytes { [UInt8]($0) }
        do {
            // Beside and renamed: a crash leaves no half a key.
            let temporary = FilePath("\(file).new")
            let descriptor = try FileDescriptor.open(
                temporary, .writeOnly, options: [.create, .truncate], permissions: [.ownerRead, .ownerWrite])
            try descriptor.closeAfter {
                _ = try descriptor.writeAll(secret)
                guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
            }
            try FileManager.default.moveReplacing(from: temporary.string, to: file.string)
        } catch {
            throw CohortError(.invalid, "\(file) cannot be written: \(error)")
        }
        return secret
    }

    /// An identifier made once and kept, so that a restarted server knows its own leases.
    func identity() throws -> String {
        try secret("identity").prefix(16).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}
