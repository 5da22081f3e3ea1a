import ArgumentParser
import CohortCore
import Logging

struct PeerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peer", abstract: "Join this machine to a server, to train.",
        discussion: """
            COHORT_TOKEN=TOKEN cohort peer --server https://SERVER:8080
            COHORT_TOKEN=TOKEN cohort peer --server https://SERVER:8080 --max-load 50

            Settings without a flag, such as COHORT_CACHE_LIMIT, are in docs/settings.md.
            """)

    @OptionGroup var common: CommonOptions

    @Option(help: "The server's URL (COHORT_SERVER).")
    var server: String?

    @Option(help: "The fingerprint of the self-signed certificate, as the server prints it when it starts (COHORT_FINGERPRINT).")
    var fingerprint: String?

    @Option(help: "A join token, from `cohort token` (COHORT_TOKEN).")
    var token: String?

    @Option(help: "How others see this machine; else its host name (COHORT_NAME).")
    var name: String?

    @Option(name: .customLong("data-dir"), help: "Identity and cached data sets; one peer a folder (COHORT_DATA_DIR).")
    var dataDir: String?

    @Option(help: "Threads to train with; else one a core (COHORT_THREADS).")
    var threads: Int?

    @Option(help: "auto, native or torch: `cohort engines` lists what is here (COHORT_ENGINE).")
    var engine: String?

    @Option(help: "auto, cpu, or a GPU such as cuda:0 (COHORT_DEVICE).")
    var device: String?

    @Option(
        name: .customLong("allow-models"),
        help: ArgumentHelp(
            "Whose modules to run, which are people's own code: mine, or everyone's (COHORT_ALLOW_MODELS).", valueName: "whose"))
    var allowModels: String?

    @Option(help: "Whose sessions to train: mine, or everyone (COHORT_SERVE).")
    var serve: String?

    @Option(
        name: .customLong("max-load"),
        help: ArgumentHelp("The most of its cores' time to use, 1 to 100 (COHORT_MAX_LOAD).", valueName: "percent"))
    var maxLoad: Int?

    @Flag(name: .customLong("keep-data"), help: "Keep a session's rows on disk when it is over (COHORT_KEEP_DATA).")
    var keepData = false

    @Option(help: "What messages go by: http with the server, or amqp with its RabbitMQ (COHORT_TRANSPORT).")
    var transport: String?

    func run() async throws {
        let settings = try await common.settings()
        // On a terminal people watch: one line says what it does. Where it writes into a file or a journal, that gets the log.
        let isWatched = Terminal.isWatched
        let logger = try common.logger(settings, label: "cohort.peer", standard: isWatched ? .critical : .info)
        try await PeerAssembly(
            settings: settings, server: server, fingerprint: fingerprint, token: token, name: name, dataDirectory: dataDir,
            threads: threads, engine: engine, device: device, allowModels: allowModels,
            serve: serve, maxLoad: maxLoad, keepsData: keepData, transport: transport, isWatched: isWatched, logger: logger
        ).run()
    }
}
