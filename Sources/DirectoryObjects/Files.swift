import CohortCore

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A call to the operating system that failed. Every function of this file blocks: call them on ``BlockingLanes``.
struct FileFailure: Error {
    let doing: String
    let path: String
    let number: Int32

    /// A failure with the current `errno`.
    init(_ doing: String, _ path: String) { self.init(doing, path: path, errno: errno) }

    init(_ doing: String, path: String, errno number: Int32) {
        self.number = number
        self.doing = doing
        self.path = path
    }

    var isMissing: Bool { number == ENOENT }

    var reason: String { String(cString: strerror(number)) }

    /// The error for users; `object` is the key or purpose of the file, `bytes` how many of it were written.
    func error(object: String, bytes: Int) -> CohortError {
        if number == ENOSPC || number == EDQUOT {
            let free = Files.freeBytes(at: path).map { "\($0) bytes are free" } ?? "no space is left"
            return CohortError(.storageFull, "the disk of \(path) is full: \(free), and \(bytes) bytes of \(object) are to be stored there")
        }
        if number == ENOTDIR || number == EISDIR {
            return CohortError(.invalid, "'\(object)' could not be stored: a part of this key is an object, or it is a folder of others")
        }
        return CohortError(.storageFull, "\(path) (\(object)) could not be \(doing): \(reason)")
    }
}

/// An open file, closed with its last reference.
final class OpenFile: Sendable {
    let descriptor: Int32
    let path: String

    private init(descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { _ = close(descriptor) }

    static func reading(_ path: String) throws(FileFailure) -> OpenFile {
        guard let file = try readingIfThere(path) else { throw FileFailure("opened", path: path, errno: ENOENT) }
        return file
    }

    /// nil when there is no such file.
    static func readingIfThere(_ path: String) throws(FileFailure) -> OpenFile? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor >= 0 { return OpenFile(descriptor: descriptor, path: path) }
        let failure = FileFailure("opened", path)
        if failure.isMissing { return nil }
        throw failure
    }

    /// A new file that only its owner can read.
    static func creating(_ path: String) throws(FileFailure) -> OpenFile {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw FileFailure("made", path) }
        return OpenFile(descriptor: descriptor, path: path)
    }

    /// Locks the file for as long as it is open.
    /// - Returns: false when another process has the lock.
    func lock() -> Bool { flock(descriptor, LOCK_EX | LOCK_NB) == 0 }

    func status() throws(FileFailure) -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileFailure("examined", path) }
        return status
    }

    func write(_ bytes: [UInt8]) throws(FileFailure) {
        var done = 0
        while done < bytes.count {
            let written = bytes.withUnsafeBytes { writeSome(UnsafeRawBufferPointer(rebasing: $0[done...])) }
            if written < 0 {
                if errno == EINTR { continue }
                throw FileFailure("written", path)
            }
            done += written
        }
    }

    private func writeSome(_ bytes: UnsafeRawBufferPointer) -> Int {
        // By module: `write` alone would be the method above.
        #if canImport(Darwin)
            Darwin.write(descriptor, bytes.baseAddress, bytes.count)
        #elseif canImport(Musl)
            Musl.write(descriptor, bytes.baseAddress, bytes.count)
        #else
            Glibc.write(descriptor, bytes.baseAddress, bytes.count)
        #endif
    }

    /// Up to `count` bytes at `offset`; none at the end of the file.
    func read(at offset: Int, count: Int) throws(FileFailure) -> [UInt8] {
        var got = 0
        var failure: FileFailure?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while got < count {
                let part = pread(descriptor, buffer.baseAddress.map { $0 + got }, count - got, off_t(offset + got))
                if part < 0 {
                    if errno == EINTR { continue }
                    failure = FileFailure("read", path)
                }
                guard part > 0 else { break }
                got += part
            }
            initialized = got
        }
        if let failure { throw failure }
        return bytes
    }

    /// Returns when the bytes (of a folder: its entries) are on the disk.
    func synchronize() throws(FileFailure) {
        guard fsync(descriptor) == 0 else { throw FileFailure("written", path) }
    }
}

enum Files {
    static func rename(_ old: String, to new: String) throws(FileFailure) {
        #if canImport(Darwin)
            let result = Darwin.rename(old, new)
        #elseif canImport(Musl)
            let result = Musl.rename(old, new)
        #else
            let result = Glibc.rename(old, new)
        #endif
        guard result == 0 else { throw FileFailure("made", new) }
    }

    static func makeLink(_ path: String, to target: String) throws(FileFailure) {
        guard symlink(target, path) == 0 else { throw FileFailure("made", path) }
    }

    /// nil when there is nothing, or something else than a symbolic link.
    static func linkTarget(_ path: String) throws(FileFailure) -> String? {
        var failure: FileFailure?
        let bytes = [UInt8](unsafeUninitializedCapacity: 512) { buffer, initialized in
            let count = buffer.withMemoryRebound(to: CChar.self) { readlink(path, $0.baseAddress!, $0.count) }
            if count < 0 { failure = FileFailure("read", path) }
            initialized = max(0, count)
        }
        if let failure {
            guard failure.isMissing || failure.number == EINVAL || failure.number == ENOTDIR else { throw failure }
            return nil
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Nothing there: nothing happens.
    static func remove(_ path: String) throws(FileFailure) {
        guard unlink(path) == 0 || errno == ENOENT else { throw FileFailure("removed", path) }
    }

    /// - Returns: false when the folder was there.
    static func makeFolder(_ path: String) throws(FileFailure) -> Bool {
        if mkdir(path, 0o700) == 0 { return true }
        guard errno == EEXIST else { throw FileFailure("made", path) }
        return false
    }

    /// The folder and those above it, as far as they are missing.
    static func makeFolders(_ path: String) throws(FileFailure) {
        do {
            _ = try makeFolder(path)
        } catch {
            guard error.isMissing, let slash = path.lastIndex(of: "/"), slash > path.startIndex else { throw error }
            try makeFolders(String(path[..<slash]))
            _ = try makeFolder(path)
        }
    }

    static func synchronizeFolder(_ path: String) throws(FileFailure) { try OpenFile.reading(path).synchronize() }

    /// - Throws: when it is not.
    static func requireWritable(_ path: String) throws(FileFailure) {
        guard access(path, W_OK) == 0 else { throw FileFailure("written", path) }
    }

    /// The status of the path itself, without following links; nil when it does not exist.
    static func status(_ path: String) throws(FileFailure) -> stat? {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            let failure = FileFailure("examined", path)
            if failure.isMissing { return nil }
            throw failure
        }
        return status
    }

    static func freeBytes(at path: String) -> Int? {
        // The file itself may be gone by now; its folders are not.
        var folder = path[...]
        while let slash = folder.lastIndex(of: "/") {
            var status = statvfs()
            if statvfs(String(folder), &status) == 0 { return Int(status.f_bavail) * Int(status.f_frsize) }
            folder = folder[..<slash]
        }
        return nil
    }
}

extension stat {
    /// Seconds since the last change of the contents.
    var age: Int {
        #if canImport(Darwin)
            time(nil) - st_mtimespec.tv_sec
        #else
            time(nil) - st_mtim.tv_sec
        #endif
    }

    var size: Int { Int(st_size) }
}
