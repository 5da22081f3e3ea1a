#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The kind and size of a file.
public struct FileStatus: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        case regular, folder, link, fifo
        /// A device or a socket.
        case other
    }

    public let kind: Kind
    /// The nine bits of who may read, write and execute it.
    public let permissions: UInt32

    /// - Parameter followsLinks: whether a symbolic link is what it leads to.
    /// - Returns: nil on failure; `errno` has the reason.
    public init?(of path: String, followsLinks: Bool = true) {
        var about = stat()
        guard (followsLinks ? stat(path, &about) : lstat(path, &about)) == 0 else { return nil }
        kind =
            switch about.st_mode & S_IFMT {
            case S_IFREG: .regular
            case S_IFDIR: .folder
            case S_IFLNK: .link
            case S_IFIFO: .fifo
            default: .other
            }
        permissions = UInt32(about.st_mode) & 0o777
    }

    /// Gives a file these bits.
    public static func set(permissions: UInt32, of path: String) { _ = chmod(path, mode_t(permissions)) }
}
