import CohortCore

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// 32 random bytes in a file that only its owner may read. Blocks: call it while starting.
enum KeyFile {
    static let length = 32

    /// Reads the key, or makes it. Two processes that make it at once end up with the same one.
    /// - Throws: ``CohortError`` `invalid` for a file that is damaged or that others may read, `storageFull` when it cannot be written.
    static func key(at path: String) throws -> [UInt8] {
        if let key = try read(path) { return key }
        var generator = SystemRandomNumberGenerator()
        let key = (0..<length).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
        let temporary = "\(path).\(newIdentifier())"
        let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("made", path) }
        defer { unlink(temporary) }
        let written = write(file, key, length) == length && fsync(file) == 0
        close(file)
        guard written else { throw failure("written", path) }
        // A link fails where a rename would replace what another process has just made.
        guard link(temporary, path) == 0 || errno == EEXIST else { throw failure("made", path) }
        guard let stored = try read(path) else { throw failure("read", path) }
        return stored
    }

    private static func read(_ path: String) throws -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else {
            if errno == ENOENT { return nil }
            throw failure("read", path)
        }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw failure("read", path) }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size == length else {
            throw CohortError(
                .invalid,
                "the key file \(path) is damaged: it must be a file of \(length) bytes. Restore it, or remove it (all users must then sign in again)"
            )
        }
        guard status.st_mode & 0o077 == 0 else {
            throw CohortError(
                .invalid, "the key file \(path) can be read by others: run `chmod 600 \(path)`, and remove it if others may have read it")
        }
        var key = [UInt8](repeating: 0, count: length)
        guard readBytes(file, &key) == length else { throw failure("read", path) }
        return key
    }

    private static func failure(_ verb: String, _ path: String) -> CohortError {
        CohortError(.storageFull, "the key file \(path): failed to be \(verb): \(String(cString: strerror(errno)))")
    }
}

private func readBytes(_ file: Int32, _ bytes: inout [UInt8]) -> Int { read(file, &bytes, bytes.count) }
