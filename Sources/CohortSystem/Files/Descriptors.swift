#if canImport(Glibc)
    import Glibc

    private let descriptors = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
#else
    import Darwin

    private let descriptors = RLIMIT_NOFILE
#endif

/// The number of files and connections that the system allows this process to open; nil when it cannot be read.
public var maxDescriptors: Int? {
    var limit = rlimit()
    return getrlimit(descriptors, &limit) == 0 ? Int(clamping: limit.rlim_max) : nil
}

/// Raises the number of files and connections that this process may have open to what the system allows it: many systems begin at 1,024,
/// and a server has one connection a peer.
public func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(descriptors, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = min(limit.rlim_max, 1 << 20)
    _ = setrlimit(descriptors, &limit)
}
