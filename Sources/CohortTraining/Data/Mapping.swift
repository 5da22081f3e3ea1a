import CohortCore
import Dispatch

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A read-only mapping of a file, or zeroed memory; unmapped with the last reference.
final class Mapping: @unchecked Sendable {
    // @unchecked: no thread writes there.
    let base: UnsafeMutableRawPointer
    private let size: Int
    private let file: Int32?
    private let queue = DispatchQueue(label: "cohort.read-ahead", qos: .userInitiated)

    /// The open file is its own from here on, unless this gives nil.
    init?(_ file: Int32, size: Int) {
        guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, file, 0), base != MAP_FAILED else { return nil }
        self.base = base
        self.size = size
        self.file = file
    }

    /// Memory of zeros, which takes room where it is written to.
    init(zeros size: Int) throws {
        let size = max(size, 1)
        guard let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0), base != MAP_FAILED else {
            throw CohortError(.unavailable, "there are no \(size) bytes of memory for the table")
        }
        self.base = base
        self.size = size
        file = nil
    }

    deinit {
        munmap(base, size)
        if let file { close(file) }
    }

    /// Reads pages one by one, as they are touched or asked for.
    func readNothingAhead() { posix_madvise(base, size, POSIX_MADV_RANDOM) }

    /// Reads these bytes, on another thread.
    func readAhead(_ bytes: Range<Int>) {
        let page = Int(getpagesize())
        let start = bytes.lowerBound / page * page
        queue.async { [self] in
            posix_madvise(base + start, bytes.upperBound - start, POSIX_MADV_WILLNEED)
            #if canImport(Glibc)
                // And mapped, so that training does not stop for it. Linux before 5.14 does not support this: then it is mapped when touched.
                let populateRead: Int32 = 22
                madvise(base + start, bytes.upperBound - start, populateRead)
            #endif
        }
    }
}
