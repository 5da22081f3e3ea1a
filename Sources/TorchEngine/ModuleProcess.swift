import CSandbox
import CohortCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Runs modules, which are users' code: each in a separate process, isolated as far as the system allows.
public struct ModuleHost: Sendable {
    /// Cohort's own executable: it runs ``ModuleWorker`` when its first argument is ``ModuleWorker/command``.
    public var executable: String
    /// Refuses to run a module where files, network and other processes cannot all be walled off.
    public var requiresWalls: Bool
    /// The newest version of Landlock to use; less in tests alone, which build the walls of an older kernel.
    var newestLandlock = Int32.max

    public init(executable: String, requiresWalls: Bool) {
        self.executable = executable
        self.requiresWalls = requiresWalls
    }
}

/// A process that runs one module. It belongs to one thread at a time; ``interrupt()`` may be called from any.
final class ModuleProcess {
    private let socket: ModuleSocket
    let id: pid_t
    private let interruption: Interruption
    private(set) var isGone = false
    private(set) var notes: [String] = []

    /// Seconds that a pass which is not wanted any more may take to notice.
    private static let grace: Int32 = 2
    /// Seconds that libraries and a module may take to be loaded.
    static let loading: Int32 = 300

    /// - Throws: ``CohortError`` `unavailable` when it does not start, `forbidden` when isolation is required and not available.
    init(_ host: ModuleHost, plugin: String, device: String, threads: Int, precision: TorchEngine.Precision) throws {
        var ends: [Int32] = [-1, -1]
        #if canImport(Glibc)
            let made = socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
        #else
            let made = socketpair(AF_UNIX, SOCK_STREAM, 0, &ends)
        #endif
        guard made == 0 else { throw CohortError(.unavailable, "no socket for a module's process: \(String(cString: strerror(errno)))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        socket = ModuleSocket(ends[0])
        interruption = try Interruption()
        defer { close(ends[1]) }
        let arguments = [host.executable, ModuleWorker.command, "\(host.newestLandlock)"] + Self.readable(plugin)
        id = Self.spawn(host.executable, arguments: arguments, socket: ends[1])
        guard id > 0 else {
            throw CohortError(.unavailable, "a module's process could not be started: \(String(cString: strerror(-id)))")
        }
        let walls = Walls(
            rawValue: try call(
                .open(plugin: plugin, device: device, threads: threads, precision: precision.rawValue), seconds: Self.loading
            ).walls ?? 0)
        // On the CPU a list of calls is allowed once libraries are loaded, and none of them opens or changes a file. A GPU's libraries are loaded
        // when they are needed: there it is Landlock that keeps files away, of the version that knows of truncating.
        let areFilesClosed = walls.contains(.calls) && device == "cpu" || walls.isSuperset(of: [.files, .changes])
        if walls.contains(.calls), areFilesClosed {
            notes.append("the module runs in a separate process, without network, files and other processes")
        } else {
            let missing = [walls.contains(.calls) ? nil : "the network", areFilesClosed ? nil : "files"].compactMap { $0 }
            let text = "this system cannot cut a module's process off from \(missing.joined(separator: " and "))"
            guard !host.requiresWalls else {
                throw CohortError(
                    .forbidden,
                    "\(text) (Linux with seccomp can on the CPU, from 6.2 on with Landlock on a GPU): modules of others are not run here")
            }
            notes.append("the module runs in a separate process; \(text)")
        }
    }

    deinit {
        kill(id, SIGKILL)
        _ = reap()
    }

    /// Ends a pass that does not end by itself soon after `shouldContinue` says so.
    var interrupt: @Sendable () -> Void {
        let interruption = interruption
        return { interruption.call() }
    }

    /// Interrupts of work that has ended do not affect the next.
    func forgetInterrupts() { interruption.clear() }

    /// - Parameters:
    ///   - bytes: what follows the request.
    ///   - file: open, for the other side.
    ///   - room: memory for what follows the answer, which must be as long as what comes.
    ///   - seconds: how long the answer may take at most; nil: as long as it takes, unless it is interrupted.
    ///   - shouldContinue: what the other side's questions are answered by.
    /// - Throws: ``CohortError``: what the other side says, or `invalid` when it ended; `CancellationError` when it was interrupted and killed.
    @discardableResult
    func call(
        _ request: ModuleRequest, _ bytes: [UnsafeRawBufferPointer] = [], file: Int32? = nil,
        room: (ModuleAnswer) throws -> UnsafeMutableRawBufferPointer = { _ in .init(start: nil, count: 0) },
        seconds: Int32? = nil, shouldContinue: () -> Bool = { true }
    ) throws -> ModuleAnswer {
        guard !isGone else { throw CohortError(.internal, "the module's process has ended") }
        do {
            try socket.send(request, bytes, file: file)
            while true {
                guard try interruption.wait(for: socket.descriptor, grace: Self.grace, seconds: seconds) else {
                    isGone = true
                    kill(id, SIGKILL)
                    guard seconds == nil else {
                        throw CohortError(.invalid, "the module could not be loaded within \(seconds ?? 0) s")
                    }
                    throw CancellationError()
                }
                guard try socket.receiveByte() == ModuleSocket.question else { break }
                try socket.send(byte: shouldContinue() ? 1 : 0)
            }
        } catch is ModuleSocket.Ended {
            throw ended()
        }
        let answer: ModuleAnswer
        var none: Int32 = -1
        // Descriptors that a module's code sends are not expected.
        defer { if none >= 0 { close(none) } }
        do {
            answer = try socket.receive(ModuleAnswer.self, file: &none) { answer, count in
                let memory = answer.fault == nil ? try room(answer) : .init(start: nil, count: 0)
                guard memory.count == count else {
                    throw CohortError(.invalid, "the module's process gave \(count) bytes where \(memory.count) were expected")
                }
                return memory
            }
        } catch is ModuleSocket.Ended {
            throw ended()
        } catch {
            // What comes next on the socket is not known any more.
            isGone = true
            kill(id, SIGKILL)
            throw error
        }
        if let fault = answer.fault { throw CohortError(fault.code, fault.message.printable(max: 1_000)) }
        return answer
    }

    private func ended() -> CohortError {
        isGone = true
        return CohortError(.invalid, "the module's process ended: \(reap())")
    }

    private var ending: String?

    /// Waits for its end, and says how it came.
    private func reap() -> String {
        if let ending { return ending }
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0, errno == EINTR {}
        let signal = status & 0x7f
        let text =
            switch signal {
            case 0: "it gave up with code \(status >> 8 & 0xff)"
            case SIGKILL: "it was killed, as systems do when memory is short"
            default: "by signal \(signal) (\(String(cString: strsignal(signal))))"
            }
        ending = text
        return text
    }

    // MARK: Starting

    private static func spawn(_ executable: String, arguments: [String], socket: Int32) -> pid_t {
        // Tokens and keys of this process's environment are none of a module's business.
        let kept = ["PATH=", "LD_LIBRARY_PATH=", "LANG=", "LC_", "OMP_", "MKL_", "KMP_", "CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_"]
        var variables: [String] = []
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if kept.contains(where: text.hasPrefix) { variables.append(text) }
            next += 1
        }
        var (words, values) = (arguments.map { strdup($0) } + [nil], variables.map { strdup($0) } + [nil])
        defer { for word in words + values { free(word) } }
        return cohort_sandbox_spawn(executable, &words, &values, socket)
    }

    /// The folders of its libraries: those that this process has loaded, which include PyTorch's.
    static func readable(_ plugin: String) -> [String] {
        final class Paths { var all: [String] = [] }
        let paths = Paths()
        cohort_sandbox_libraries(
            { path, context in
                guard let path, let context else { return }
                Unmanaged<Paths>.fromOpaque(context).takeUnretainedValue().all.append(String(cString: path))
            }, Unmanaged.passUnretained(paths).toOpaque())
        var folders: Set<String> = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/cpuinfo", "/proc/meminfo", "/proc/self", "/sys"]
        for path in paths.all + [plugin] where !path.hasPrefix("/usr/") && !path.hasPrefix("/lib") {
            let parts = path.split(separator: "/")
            func folder(_ count: Int) -> String { parts.prefix(count).reduce("") { "\($0)/\($1)" } }
            // PyTorch's own folder has what it loads later. Of all others the file alone: the plugin may lie beside a peer's own data.
            let isPyTorch = parts.last.map { $0.hasPrefix("libtorch") || $0.hasPrefix("libc10") } == true
            folders.insert(isPyTorch ? folder(parts.count - 1) : path)
            // What it loads once there is a GPU lies beside it.
            if let place = parts.firstIndex(of: "site-packages") { folders.insert("\(folder(place + 1))/nvidia") }
        }
        for gpu in ["/proc/driver/nvidia", "/proc/devices", "/proc/modules"] { folders.insert(gpu) }
        return folders.sorted()
    }
}

/// Lets another thread end a wait.
private final class Interruption: Sendable {
    private let reading: Int32
    private let writing: Int32

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw CohortError(.unavailable, "no pipe: \(String(cString: strerror(errno)))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (reading, writing) = (ends[0], ends[1])
    }

    deinit {
        close(reading)
        close(writing)
    }

    func call() {
        var byte: UInt8 = 1
        _ = write(writing, &byte, 1)
    }

    /// Forgets a call that nothing was waiting for.
    func clear() {
        var entry = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
        var bytes = [UInt8](repeating: 0, count: 64)
        while poll(&entry, 1, 0) > 0, read(reading, &bytes, bytes.count) > 0 {}
    }

    /// - Parameter seconds: how long at most, whether the call comes or not.
    /// - Returns: whether there is something to read; false when the call came, and nothing for so many seconds (`grace`) after it.
    func wait(for descriptor: Int32, grace: Int32, seconds: Int32?) throws -> Bool {
        var isCalled = seconds != nil
        let limit = seconds ?? grace
        while true {
            var entries = [
                pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: reading, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&entries, isCalled ? 1 : 2, isCalled ? limit * 1_000 : -1)
            if count < 0, errno == EINTR { continue }
            if count == 0 { return false }
            if count < 0 { throw ModuleSocket.Ended() }
            if entries[0].revents != 0 { return true }
            isCalled = true
        }
    }
}
