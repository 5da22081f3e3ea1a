import CSandbox

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Attacks of a module's code on its host's files and processes: each row is tried. For tests, which try them inside the walls and outside.
struct Attempts {
    /// A folder of the host's with `file`, `secret` and `folder` in it.
    let folder: String
    /// A process of the host's that may be killed.
    let victim: Int32

    /// The names of the rows that were carried out.
    func succeeded() -> [String] { rows.filter { $0.attempt() }.map(\.name) }

    var names: [String] { rows.map(\.name) }

    private struct Row {
        let name: String
        let attempt: () -> Bool

        init(_ name: String, _ attempt: @escaping () -> Bool) {
            self.name = name
            self.attempt = attempt
        }
    }

    private var rows: [Row] { files + paths + processes + memory }

    /// Returns whether the descriptor is valid, and closes it.
    private func opens(_ descriptor: Int32) -> Bool {
        guard descriptor >= 0 else { return false }
        close(descriptor)
        return true
    }

    private func tried(_ name: String, _ what: cohort_sandbox_attempt) -> Row {
        Row(name) { cohort_sandbox_attempt(what, victim) != 0 }
    }

    private var files: [Row] {
        [
            Row("read a file") { opens(open("\(folder)/secret", O_RDONLY)) },
            Row("write a new file") { opens(open("\(folder)/new", O_WRONLY | O_CREAT | O_EXCL, 0o600)) },
            Row("write to a file") { opens(open("\(folder)/file", O_WRONLY | O_APPEND)) },
            Row("list a folder") { opens(open(folder, O_RDONLY | O_DIRECTORY)) },
            Row("read another process") { opens(open("/proc/\(victim)/environ", O_RDONLY)) },
        ]
    }

    private var paths: [Row] {
        var times = [timeval(), timeval()]
        return [
            Row("look at a path") {
                var status = stat()
                return lstat("\(folder)/secret", &status) == 0
            },
            Row("look whether a path is there") { access("\(folder)/secret", F_OK) == 0 },
            Row("change a file's rights") { chmod("\(folder)/file", 0o777) == 0 },
            Row("change a folder's rights") { chmod("\(folder)/folder", 0o700) == 0 },
            Row("change a file's times") { utimes("\(folder)/file", &times) == 0 },
            Row("change a file's owner") { chown("\(folder)/file", getuid(), getgid()) == 0 },
            Row("make a folder") { mkdir("\(folder)/made", 0o700) == 0 },
            Row("make a link") { symlink("secret", "\(folder)/link") == 0 },
            Row("make a second name") { link("\(folder)/file", "\(folder)/second") == 0 },
            Row("make a pipe with a name") { mkfifo("\(folder)/pipe", 0o600) == 0 },
            Row("empty a file") { truncate("\(folder)/file", 0) == 0 },
            Row("rename a file") { rename("\(folder)/file", "\(folder)/renamed") == 0 },
            Row("remove a file") { unlink("\(folder)/secret") == 0 },
            Row("remove a folder") { rmdir("\(folder)/folder") == 0 },
            Row("go elsewhere") { chdir("/") == 0 },
        ]
    }

    private var processes: [Row] {
        var rows = [
            Row("make a socket") {
                #if canImport(Glibc)
                    opens(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
                #else
                    opens(socket(AF_INET, SOCK_STREAM, 0))
                #endif
            },
            Row("make a pipe") {
                var ends: [Int32] = [-1, -1]
                guard pipe(&ends) == 0 else { return false }
                for end in ends { close(end) }
                return true
            },
            Row("start a program") {
                var child: pid_t = 0
                guard let program = strdup("/bin/true") else { return false }
                defer { free(program) }
                guard posix_spawn(&child, program, nil, nil, [program, nil], nil) == 0 else { return false }
                var status: Int32 = 0
                waitpid(child, &status, 0)
                return true
            },
            Row("ask whether a process is there") { kill(victim, 0) == 0 },
        ]
        #if os(Linux)
            rows += [
                tried("change a process's priority", COHORT_ATTEMPT_PRIORITY),
                tried("change a process's place before the disk", COHORT_ATTEMPT_DISK_PRIORITY),
                tried("change a process's cores", COHORT_ATTEMPT_CORES),
                tried("change how a process is scheduled", COHORT_ATTEMPT_SCHEDULING),
                tried("look at a process's limits", COHORT_ATTEMPT_LIMITS),
                Row("signal a process by a descriptor's owner") { signalByOwner() },
            ]
        #endif
        return rows
    }

    #if os(Linux)
        /// Sets the victim as the owner of standard input, or of the socket where that is not open: whatever happens on it signals the victim.
        private func signalByOwner() -> Bool { fcntl(0, F_SETOWN, victim) == 0 || fcntl(3, F_SETOWN, victim) == 0 }
    #endif

    private var memory: [Row] {
        var rows = [
            Row("map memory that is not counted for the process") {
                let size = 1 << 30
                guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANON, -1, 0), memory != MAP_FAILED else {
                    return false
                }
                munmap(memory, size)
                return true
            }
        ]
        #if os(Linux)
            rows += [
                tried("make a file in memory", COHORT_ATTEMPT_MEMORY_FILE),
                Row("share memory by a key") { shmget(IPC_PRIVATE, 4_096, IPC_CREAT | 0o600) >= 0 },
            ]
        #endif
        return rows
    }
}
