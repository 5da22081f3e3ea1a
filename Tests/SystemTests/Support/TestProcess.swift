import FoundationEssentials
import Glibc
import Subprocess
import Synchronization
import SystemPackage
import Testing

/// A real `cohort` process of a test, with its id, its output and its end.
final class TestProcess: Sendable {
    struct Failed: Error, CustomStringConvertible {
        let description: String
    }

    private struct State {
        var lines: [String] = []
        var identifier: pid_t?
        var status: TerminationStatus?
        var watchers: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextWatcher = 0
        var version = 0
    }

    let name: String
    private let configuration: Configuration
    private let log: String
    private let state = Mutex(State())

    /// - Parameter executable: nil: ``binary``.
    init(name: String, executable: String? = nil, arguments: [String], environment: [String: String], log: String) {
        self.name = name
        self.log = log
        var variables: [Environment.Key: String?] = [Environment.Key(stringLiteral: "COHORT_ENDS_WITH_PARENT"): "1"]
        for (key, value) in environment { variables[Environment.Key(stringLiteral: key)] = value }
        var options = PlatformOptions()
        options.teardownSequence = [.send(signal: .kill, allowedDurationToNextStep: .seconds(1))]
        configuration = Configuration(
            executable: .path(FilePath(executable ?? Self.binary)), arguments: Arguments(arguments),
            environment: .inherit.updating(variables),
            platformOptions: options)
    }

    /// Ends with this process, however it ends, and with it what it started.
    private static let input: FileDescriptor = {
        let (reading, writing) = (try? FileDescriptor.pipe()) ?? (.standardInput, .standardInput)
        for end in [reading, writing] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        return reading
    }()

    /// The `cohort` that was built with the tests; COHORT_BINARY names another.
    static let binary: String =
        getenv("COHORT_BINARY").map { String(cString: $0) }
        ?? FilePath(CommandLine.arguments[0]).removingLastComponent().appending("cohort").string

    func run() async {
        do {
            let file = try FileDescriptor.open(
                FilePath(log), .writeOnly, options: [.create, .append], permissions: [.ownerReadWrite])
            let result = try await Subprocess.run(
                configuration, input: .fileDescriptor(Self.input, closeAfterSpawningProcess: false), output: .sequence,
                error: .fileDescriptor(file, closeAfterSpawningProcess: true)
            ) { execution in
                change { $0.identifier = execution.processIdentifier.value }
                for try await line in execution.standardOutput.strings() { change { $0.lines.append(line) } }
            }
            change { $0.status = result.terminationStatus }
        } catch {
            change { state in
                state.lines.append("\(error)")
                if state.status == nil { state.status = .exited(-1) }
            }
        }
    }

    var lines: [String] { state.withLock { $0.lines } }
    var output: String { lines.joined(separator: "\n") }
    var standardError: String { (try? String(contentsOf: URL(filePath: log), encoding: .utf8)) ?? "" }
    var identifier: pid_t? { state.withLock { $0.identifier } }
    var isRunning: Bool { state.withLock { $0.identifier != nil && $0.status == nil } }

    func firstLine(startingWith prefix: String) async throws -> String {
        try await wait("'\(prefix)…'") { $0.lines.first { $0.hasPrefix(prefix) } }
    }

    func end(within limit: Duration = .seconds(30)) async throws -> TerminationStatus {
        try await wait("its end", limit: limit, orEnded: false) { $0.status }
    }

    /// Its process id, once it runs.
    func started() async throws -> pid_t { try await wait("its start") { $0.identifier } }

    func send(_ signal: Int32) async throws {
        let identifier = try await wait("its start") { $0.identifier }
        guard isRunning else { return }
        _ = kill(identifier, signal)
    }

    private func change(_ body: (inout State) -> Void) {
        let watchers = state.withLock { state in
            body(&state)
            state.version += 1
            defer { state.watchers = [:] }
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.resume() }
    }

    /// Waits, by events of the process, until `value` is there.
    private func wait<Value: Sendable>(
        _ what: String, limit: Duration = .seconds(60), orEnded: Bool = true, _ value: @escaping @Sendable (borrowing State) -> Value?
    ) async throws -> Value {
        try await withThrowingTaskGroup(of: Value.self) { group in
            group.addTask {
                while true {
                    try Task.checkCancellation()
                    let (found, ended, version) = self.state.withLock { (value($0), $0.status != nil, $0.version) }
                    if let found { return found }
                    if ended, orEnded {
                        throw Failed(description: "\(self.name) ended before \(what):\n\(self.output)\n\(self.standardError)")
                    }
                    await self.change(after: version)
                }
            }
            group.addTask {
                try await Task.sleep(for: limit)
                throw Failed(description: "\(self.name): no \(what) within \(limit):\n\(self.output)\n\(self.standardError)")
            }
            defer {
                group.cancelAll()
                change { _ in }  // Wakes the waiting task to see its cancellation.
            }
            guard let first = try await group.next() else { throw CancellationError() }
            return first
        }
    }

    private func change(after version: Int) async {
        await withCheckedContinuation { continuation in
            let changed = state.withLock { state in
                guard state.version == version else { return true }
                state.nextWatcher += 1
                state.watchers[state.nextWatcher] = continuation
                return false
            }
            if changed { continuation.resume() }
        }
    }
}
