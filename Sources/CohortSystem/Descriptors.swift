#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Raises the number of files and connections that this process may have open to what the system allows it: many systems begin at 1,024,
/// and a server has one connection a peer.
public func raiseDescriptorLimit() {
    var limit = rlimit()
    #if canImport(Glibc)
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
        let resource = RLIMIT_NOFILE
    #endif
    guard getrlimit(resource, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
    limit.rlim_cur = min(limit.rlim_max, 1 << 20)
    _ = setrlimit(resource, &limit)
}
