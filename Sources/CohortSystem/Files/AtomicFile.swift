public import CohortCore

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// Writes small files whole or not at all.
public enum AtomicFile {
    /// Writes the bytes to a temporary file beside `path` and renames it: after a crash, the old file or the new one is there.
    /// - Parameter permissions: of the file from its first byte on.
    /// - Throws: ``CohortError`` `storageFull` when the disk is full or fails, else `invalid`, with the reason; nothing is left over.
    public static func write(_ bytes: some Collection<UInt8>, to path: String, permissions: UInt32 = 0o600) throws(CohortError) {
        let temporary = try writeTemporary(bytes, beside: path, permissions: permissions)
        guard rename(temporary, path) == 0 else {
            let failure = failure(path)
            unlink(temporary)
            throw failure
        }
    }

    /// Writes the bytes unless there is a file at `path`: two processes that do it at once end up with the same file.
    static func create(_ bytes: some Collection<UInt8>, at path: String) throws(CohortError) {
        let temporary = try writeTemporary(bytes, beside: path, permissions: 0o600)
        defer { unlink(temporary) }
        // A link fails where a rename would replace what another process has just made.
        guard link(temporary, path) == 0 || errno == EEXIST else { throw failure(path) }
    }

    private static func writeTemporary(
        _ bytes: some Collection<UInt8>, beside path: String, permissions: UInt32
    ) throws(CohortError) -> String {
        let temporary = "\(path).\(newIdentifier())"
        let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode_t(permissions))
        guard file >= 0 else { throw failure(path) }
        let bytes = Array(bytes)
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { writeBytes(file, UnsafeRawBufferPointer(rebasing: $0[written...])) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            written += count
        }
        let isWhole = written == bytes.count && fsync(file) == 0
        // Before closing replaces it.
        let failure = failure(path)
        close(file)
        guard isWhole else {
            unlink(temporary)
            throw failure
        }
        return temporary
    }

    private static func failure(_ path: String) -> CohortError {
        let code: CohortError.Code = [ENOSPC, EDQUOT, EFBIG, EIO].contains(errno) ? .storageFull : .invalid
        return CohortError(code, "\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
}

private func writeBytes(_ file: Int32, _ bytes: UnsafeRawBufferPointer) -> Int { write(file, bytes.baseAddress, bytes.count) }
