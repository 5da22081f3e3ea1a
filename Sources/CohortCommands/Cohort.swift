import ArgumentParser
import CohortCore
public import CohortStrategies
import CohortSystem
import TorchEngine

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The `cohort` command, for the program of that name and for others that add strategies.
public enum CohortCommand {
    /// The strategies that this process knows.
    @TaskLocal static var strategies = StrategyCatalogue.builtIn

    /// Runs the command that the process was started with, and ends the process when it fails. Call it first.
    @MainActor public static func run(strategies: StrategyCatalogue = .builtIn) async {
        // A closed pipe is an error of the write, not the end of a server.
        signal(SIGPIPE, SIG_IGN)
        // On the process's first thread, before there is another: a sandbox holds for the threads that its creator starts.
        if CommandLine.arguments.dropFirst().first == ModuleWorker.command {
            ModuleWorker.run(Array(CommandLine.arguments.dropFirst(2)))
        }
        await $strategies.withValue(strategies) { await Cohort.main() }
    }
}

struct Cohort: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cohort",
        abstract: "Pool your machines and train one model together.",
        discussion: """
            Try it:          cohort demo  (settings: docs/settings.md)
            A server:        cohort serve, then: cohort signup --email you@example.org
            Join a machine:  cohort peer --server URL  (COHORT_TOKEN: from cohort token)
            Train:           cohort train data.csv --peers all --target COLUMN
            """,
        version: CohortVersion.current,
        groupedSubcommands: [
            CommandGroup(
                name: "Machines",
                subcommands: [
                    Serve.self, PeerCommand.self, Peers.self, Token.self, Coordinate.self, EngineList.self, Doctor.self, Demo.self,
                ]),
            CommandGroup(
                name: "Training",
                subcommands: [
                    Train.self, Watch.self, Cancel.self, Delete.self, Sessions.self, Status.self, Results.self, Model.self,
                    ReplayCommand.self,
                ]),
            CommandGroup(name: "Files", subcommands: [Inspect.self, Predict.self, Evaluate.self, Export.self, Import.self]),
            CommandGroup(
                name: "Account",
                subcommands: [Signup.self, Login.self, Logout.self, WhoAmI.self, SignIns.self, Passwd.self, DeleteAccount.self]),
        ])

    /// Exit codes: 0 done, 1 failed, 2 usage, 3 try again later.
    static func main() async {
        FreedMemory.keep()
        ParentWatch.start()
        do {
            var command = try parseAsRoot(try arguments(CommandLine.arguments.dropFirst()))
            if var command = command as? any AsyncParsableCommand { try await command.run() } else { try command.run() }
        } catch let error as CohortError {
            Terminal.printError(error.message)
            Terminal.end(error.code.exitCode)
        } catch let code as ExitCode {
            Terminal.end(code.rawValue)
        } catch {
            let code = exitCode(for: error)
            if code == .success {
                Terminal.printLine(fullMessage(for: error))
                Terminal.end(0)
            }
            Terminal.printError(fullMessage(for: error), prefix: "")
            Terminal.end(code == .validationFailure ? 2 : 1)
        }
    }
}

extension Cohort {
    /// The arguments as the parser takes them.
    /// - Throws: ``CohortError`` `invalid` for a command that is not there, with the one that was probably meant.
    static func arguments(_ given: some Sequence<String>) throws -> [String] {
        var arguments = Array(given)
        let commands = configuration.groupedSubcommands.flatMap(\.subcommands).map { $0._commandName } + ["help"]
        if let first = arguments.first, !first.hasPrefix("-"), !commands.contains(first) {
            let meant =
                Spelling.nearest(to: first, in: commands).map { "did you mean '\($0)'?" } ?? "`cohort help` lists those that are there"
            throw CohortError(.invalid, "there is no command '\(first.printable(max: 40))': \(meant)")
        }
        // A negative number after an option is its value: the check of the option then says what would be right.
        for index in arguments.indices.dropFirst().reversed() {
            let (option, value) = (arguments[index - 1], arguments[index])
            guard option.hasPrefix("--"), !option.contains("="), value.hasPrefix("-"), Double(value) != nil else { continue }
            arguments.replaceSubrange(index - 1...index, with: ["\(option)=\(value)"])
        }
        return arguments
    }
}

extension CohortError.Code {
    /// The same in every command.
    var exitCode: Int32 {
        switch self {
        case .invalid: 2
        case .unavailable, .notEnoughPeers: 3
        default: 1
        }
    }
}
