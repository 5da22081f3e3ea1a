import ArgumentParser
import CohortAPI
import CohortCore
import ServiceLifecycle

struct Coordinate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a coordinator apart from the API servers.",
        discussion: "Database, broker and object store must be shared: docs/settings.md.")

    @OptionGroup var common: CommonOptions

    @Option(name: .customLong("data-dir"), help: "Where its identity and copies of data sets are kept (COHORT_DATA_DIR).")
    var dataDir: String?

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logger(settings, label: "cohort.coordinate")
        let path = settings.text("data_dir", flag: dataDir, default: "\(StandardFolder.data())/coordinator")
        let parts = try await CommonParts(settings: settings, path: path, of: "coordinator", isApart: true, logger: logger)
        guard let signals = parts.makeSignals() else {
            throw CohortError(.invalid, "the broker of COHORT_BROKER_URL cannot tell servers and coordinators of each other")
        }
        let coordinator = try parts.makeCoordinator(feed: signals)
        signals.runs(coordinator)
        try await parts.run([signals, coordinator, Announcement()])
    }

    /// Says that it runs, for people and for those who start it.
    private struct Announcement: Service {
        func run() async throws {
            Terminal.printLine("coordinating")
            try? await gracefulShutdown()  // Cancelled: it ends as well.
        }
    }
}
