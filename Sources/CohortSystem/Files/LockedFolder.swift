public import CohortCore

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A data folder in the hands of one process: made with mode 0700, locked until the process ends, however it ends.
public final class LockedFolder: Sendable {
    public let path: String
    private let descriptor: Int32

    /// - Parameters:
    ///   - lockName: the name of the lock file.
    ///   - role: names the process in errors: `server`, `peer`.
    /// - Throws: ``CohortError`` `conflict` when another process has the folder, `invalid` when it could not be created or written to.
    public init(path: String, lockName: String = "lock", role: String) throws(CohortError) {
        if let reason = createPrivateFolder(path) {
            throw CohortError(.invalid, "the data folder \(path) could not be created: \(reason)")
        }
        let descriptor = open("\(path)/\(lockName)", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CohortError(.invalid, "the data folder \(path) cannot be written to: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw CohortError(
                .conflict, "another \(role) is running on the data folder \(path): stop it, or choose another folder with --data-dir")
        }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
