import ArgumentParser
import CohortCore
import FoundationEssentials
import Subprocess
import Synchronization
import SystemPackage
import UnixSignals

/// Starts this executable again as other processes, which end (SIGTERM, then SIGKILL after 10 s) when `body` does, however it ends: with a
/// signal (SIGINT, SIGTERM, SIGHUP) as well, and with this process, should it be killed.
/// - Throws: ``ExitCode`` 130 after a signal.
func withProcesses<Result: Sendable>(_ body: @escaping @Sendable (Processes) async throws -> Result) async throws -> Result {
    let (reading, writing) = try ParentWatch.pipe()
    defer {
        try? reading.close()
        try? writing.close()
    }
    let processes = Processes(standardInput: reading)
    return try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask {
            defer { processes.requests.finish() }
            return try await withThrowingTaskGroup(of: Result?.self) { group in
                group.addTask { try await body(processes) }
                group.addTask {
                    for await signal in await UnixSignalsSequence(trapping: .sigint, .sigterm, .sighup) {
                        Terminal.printError("stopping what was started (\(signal))", prefix: "")
                        throw ExitCode(130)
                    }
                    return nil
                }
                defer { group.cancelAll() }
                return try await group.next() ?? nil
            }
        }
        for await request in processes.stream {
            group.addTask {
                await request.run()
                return nil
            }
        }
        // `body` has returned or thrown: everything it started ends now.
        group.cancelAll()
        var result: Result?
        while let next = try await group.next() { result = next ?? result }
        guard let result else { throw CancellationError() }
        return result
    }
}

/// Starts processes within `withProcesses`.
struct Processes: Sendable {
    fileprivate let stream: AsyncStream<ChildProcess>
    fileprivate let requests: AsyncStream<ChildProcess>.Continuation

    private let standardInput: SystemPackage.FileDescriptor

    fileprivate init(standardInput: SystemPackage.FileDescriptor) {
        self.standardInput = standardInput
        (stream, requests) = AsyncStream.makeStream(bufferingPolicy: .unbounded)  // A process each.
    }

    /// - Parameter log: a file that gets its standard error.
    func start(_ arguments: [String], environment: [String: String] = [:], log: String) async throws -> ChildProcess {
        let child = ChildProcess(
            arguments: arguments, environment: environment.merging([ParentWatch.variable: "1"]) { given, _ in given }, log: log,
            standardInput: standardInput)
        requests.yield(child)
        return child
    }
}

/// A process that was started, its standard output as lines.
final class ChildProcess: Sendable {
    private let arguments: [String]
    private let environment: [String: String]
    private let log: String
    private let standardInput: SystemPackage.FileDescriptor
    private let lines: AsyncStream<String>
    private let output: AsyncStream<String>.Continuation

    init(arguments: [String], environment: [String: String], log: String, standardInput: SystemPackage.FileDescriptor) {
        self.standardInput = standardInput
        self.arguments = arguments
        self.environment = environment
        self.log = log
        (lines, output) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(1_000))
    }

    /// The first line of its output that begins so; nil when it ended without one.
    func firstLine(startingWith prefix: String) async -> String? {
        for await line in lines where line.hasPrefix(prefix) { return line }
        return nil
    }

    fileprivate func run() async {
        defer { output.finish() }
        var options = PlatformOptions()
        // A Ctrl-C is for the process that started it, which ends it.
        options.processGroupID = 0
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(10))]
        var variables: [Environment.Key: String?] = [:]
        for (key, value) in environment { variables[Environment.Key(stringLiteral: key)] = value }
        do {
            let file = try FileDescriptor.open(
                FilePath(log), .writeOnly, options: [.create, .append], permissions: [.ownerReadWrite])
            _ = try await Subprocess.run(
                .path(FilePath(try executablePath())), arguments: Arguments(arguments), environment: .inherit.updating(variables),
                platformOptions: options, input: .fileDescriptor(standardInput, closeAfterSpawningProcess: false), output: .sequence,
                error: .fileDescriptor(file, closeAfterSpawningProcess: true)
            ) { execution in
                for try await line in execution.standardOutput.strings() { output.yield(line) }
            }
        } catch is CancellationError {
            // Ended as asked.
        } catch {
            output.yield("cannot run: \(error)")
        }
    }
}

/// This executable's own path.
func executablePath() throws -> String {
    #if os(Linux)
        do {
            return try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        } catch {
            throw CohortError(.internal, "this executable's own path cannot be found: \(error)")
        }
    #else
        return CommandLine.arguments[0]
    #endif
}
