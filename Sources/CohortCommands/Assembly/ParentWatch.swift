import CohortCore
import CohortSystem
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Ends a child with its parent, however the parent ends: the parent holds the writing end of a pipe whose reading end is the child's
/// standard input; when the parent is gone, that input ends.
enum ParentWatch {
    static let variable = "COHORT_ENDS_WITH_PARENT"

    /// Called first thing by a process that may be such a child.
    static func start() {
        guard getenv(variable) != nil else { return }
        // Children of this process are not children of that parent.
        unsetenv(variable)
        watchingThread {
            var byte: UInt8 = 0
            while true {
                let count = read(STDIN_FILENO, &byte, 1)
                if count > 0 || count < 0 && errno == EINTR { continue }
                break
            }
            // As if asked to end; and if that does not end it, without asking.
            kill(getpid(), SIGTERM)
            sleep(15)
            _exit(1)
        }
    }

    /// A pipe for children: its reading end becomes their standard input. The writing end is this process's alone, and ends with it.
    static func pipe() throws -> (reading: SystemPackage.FileDescriptor, writing: SystemPackage.FileDescriptor) {
        let (reading, writing) = try SystemPackage.FileDescriptor.pipe()
        for end in [reading, writing] {
            guard fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) == 0 else { throw CohortError(.internal, "no pipe for child processes") }
        }
        return (reading, writing)
    }
}
