import ArgumentParser
import CohortCore

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a server: API, coordinator, and the embedded database, broker and object store.")

    @OptionGroup var common: CommonOptions

    @Option(help: "Address to listen on; 0.0.0.0 for all (COHORT_HOST).")
    var host: String?

    @Option(help: "Port to listen on; 0 for a free one, printed in the ready line (COHORT_PORT).")
    var port: Int?

    @Option(name: .customLong("data-dir"), help: "Where everything is kept (COHORT_DATA_DIR).")
    var dataDir: String?

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logger(settings, label: "cohort.serve")
        let assembly = try await ServerAssembly(settings: settings, host: host, port: port, dataDirectory: dataDir, logger: logger)
        try await assembly.run { host, port in
            Terminal.say("listening on http://\(host.contains(":") ? "[\(host)]" : host):\(port)")
        }
    }
}
