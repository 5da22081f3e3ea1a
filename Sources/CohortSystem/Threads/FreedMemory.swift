#if canImport(Glibc)
    import Glibc
#endif

/// Settings of glibc for memory that this process has freed. With other C libraries the functions do nothing.
public enum FreedMemory {
    /// Keeps up to 32 MiB of it at hand, in each of the allocator's arenas: buffers of a round are of the same sizes as those of the round before, and
    /// getting new pages from the system costs more than filling them. Call it before there are threads.
    public static func keep() {
        #if canImport(Glibc)
            // Not shown by its Swift module: M_MMAP_THRESHOLD is -3, M_TRIM_THRESHOLD is -1 (malloc.h).
            guard let symbol = dlsym(nil, "mallopt") else { return }
            let set = unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32) -> Int32).self)
            for option: Int32 in [-3, -1] { _ = set(option, 32 << 20) }
        #endif
    }

    /// Gives it back to the system, so that an idle process is small.
    public static func giveBack() {
        #if canImport(Glibc)
            guard let symbol = dlsym(nil, "malloc_trim") else { return }
            _ = unsafeBitCast(symbol, to: (@convention(c) (Int) -> Int32).self)(0)
        #endif
    }
}
