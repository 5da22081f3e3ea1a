import ArgumentParser
import CohortCore

struct PeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "peer", abstract: "Join this machine to a server as a peer.")

    @OptionGroup var common: CommonOptions

    @Option(help: "The server's URL (COHORT_SERVER).")
    var server: String?

    @Option(help: "The fingerprint of the server's own certificate, as its start prints it (COHORT_FINGERPRINT).")
    var fingerprint: String?

    @Option(help: "A join token, from `cohort token` (COHORT_TOKEN).")
    var token: String?

    @Option(help: "How others see this machine; else its host name (COHORT_NAME).")
    var name: String?

    @Option(name: .customLong("data-dir"), help: "Identity and cached data sets; one peer a folder (COHORT_DATA_DIR).")
    var dataDir: String?

    @Option(help: "Threads to train with; else one a core (COHORT_THREADS).")
    var threads: Int?

    @Option(help: "auto or native (COHORT_ENGINE).")
    var engine: String?

    @Option(help: "Whose sessions to train: mine, or everyone (COHORT_SERVE).")
    var serve: String?

    @Option(
        name: .customLong("max-load"),
        help: ArgumentHelp("The most of its cores' time to use, 1 to 100 (COHORT_MAX_LOAD).", valueName: "percent"))
    var maxLoad: Int?

    @Option(help: "What messages go by: http with the server, or amqp with its RabbitMQ (COHORT_TRANSPORT).")
    var transport: String?

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logger(settings, label: "cohort.peer")
        try await PeerAssembly(
            settings: settings, server: server, fingerprint: fingerprint, token: token, name: name, dataDirectory: dataDir,
            threads: threads, engine: engine,
            serve: serve, maxLoad: maxLoad, transport: transport, logger: logger
        ).run()
    }
}
