import ArgumentParser
import CohortCore
import CohortSession
import CohortStrategies
import FoundationEssentials
import Logging

/// Options of every command that reads settings.
struct CommonOptions: ParsableArguments {
    @Option(help: "A file of COHORT_NAME=value lines (COHORT_CONFIG).")
    var config: String?

    @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning, error, critical (COHORT_LOG_LEVEL).")
    var logLevel: String?

    /// Reads the settings, and warns about unknown names.
    func settings() async throws -> Settings {
        let settings = try await Settings(file: config)
        for warning in settings.warnings { Terminal.printError(warning, prefix: "warning: ") }
        return settings
    }

    /// Bootstraps logging, once a process, to standard error: standard output is for results.
    /// - Parameter standard: the level unless one is chosen.
    func logger(_ settings: Settings, label: String, standard: Logger.Level = .info) throws -> Logger {
        let level = try settings.logLevel(flag: logLevel, standard: standard)
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        return Logger(label: label)
    }
}

/// Options of every command that talks to a server as a person.
struct ConnectionOptions: ParsableArguments {
    @Option(help: "The server's URL; else that of the last sign-in (COHORT_SERVER).")
    var server: String?

    @Flag(help: "Print JSON, for scripts: docs/cli.md has its shapes.")
    var json = false
}
