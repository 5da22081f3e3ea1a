public import CohortCore

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A key of 32 random bytes in a file that only its owner may read. Blocks: call it while starting.
public enum KeyFile {
    public static let length = 32

    /// Reads the key, or creates it. Two processes that create it at once end up with the same one.
    ///
    /// A file that cannot be read is never replaced: everything that the key has signed would become invalid.
    /// - Parameter consequence: what a new key would mean, for the error: `all users must then sign in again`.
    /// - Throws: ``CohortError`` `invalid` for a file that is damaged, that cannot be read, or that others may read, `storageFull` when the disk is full.
    public static func key(at path: String, consequence: String) throws(CohortError) -> [UInt8] {
        if let key = try read(path, consequence: consequence) { return key }
        var generator = SystemRandomNumberGenerator()
        try AtomicFile.create((0..<length).map { _ in UInt8(truncatingIfNeeded: generator.next()) }, at: path)
        guard let stored = try read(path, consequence: consequence) else { throw failure(path) }
        return stored
    }

    private static func read(_ path: String, consequence: String) throws(CohortError) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw failure(path)
        }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw failure(path) }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size == length else {
            throw CohortError(
                .invalid,
                "the key file \(path) is damaged: it must be a file of \(length) bytes. Restore it from a backup, or remove it (\(consequence))"
            )
        }
        guard status.st_mode & 0o077 == 0 else {
            throw CohortError(
                .invalid, "the key file \(path) can be read by others: run `chmod 600 \(path)`, and remove it if others may have read it")
        }
        var key = [UInt8](repeating: 0, count: length)
        guard readBytes(file, &key) == length else { throw failure(path) }
        return key
    }

    private static func failure(_ path: String) -> CohortError {
        CohortError(.invalid, "the key file \(path) cannot be read: \(String(cString: strerror(errno)))")
    }
}

private func readBytes(_ file: Int32, _ bytes: inout [UInt8]) -> Int { read(file, &bytes, bytes.count) }
