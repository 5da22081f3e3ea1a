import CohortCore
import CohortPeer
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The hook by which a test holds a peer at a ``CheckPoint``: the peer connects to a Unix socket of the test, sends one line (process id, name,
/// round, epoch), and continues when the test closes the connection. In debug builds alone; a release build has no such hook.
enum CheckPointSocket {
    /// - Returns: nil unless this is a debug build and `COHORT_CHECK_POINTS` names a socket.
    /// - Throws: ``CohortError`` `invalid` when a release build is given one.
    static func hook(_ settings: Settings) throws -> (@Sendable (CheckPoint) -> Void)? {
        guard let path = settings.text("check_points") else { return nil }
        #if DEBUG
            return { point in hold(at: point, path) }
        #else
            throw CohortError(.invalid, "COHORT_CHECK_POINTS is '\(path)', but this is not a debug build: unset it")
        #endif
    }

    #if DEBUG
        /// Returns at once when the socket is closed: the test is over.
        private static func hold(at point: CheckPoint, _ path: String) {
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0 else { return }
            defer { close(descriptor) }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let bytes = [UInt8](path.utf8) + [0]
            guard bytes.count <= MemoryLayout.size(ofValue: address.sun_path) else { return }
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
            let length = socklen_t(MemoryLayout<sockaddr_un>.size)
            let connected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) == 0 }
            }
            guard connected else { return }
            let line = "\(getpid()) \(point.name.rawValue) \(point.round) \(point.epoch)\n"
            guard send(descriptor, line, line.utf8.count, Int32(MSG_NOSIGNAL)) > 0 else { return }
            var byte: UInt8 = 0
            while read(descriptor, &byte, 1) < 0, errno == EINTR {}
        }
    #endif
}
