import ArgumentParser
import CohortCore

struct Coordinate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a coordinator apart from the API servers, where database, broker and object store are shared.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        // Throws for the URLs that this version does not understand.
        let documents = try DocumentsChoice(url: settings.text("database_url"), dataDirectory: StandardFolder.data())
        let broker = try BrokerChoice(url: settings.text("broker_url"))
        _ = try ObjectsChoice(url: settings.text("objects_url"), dataDirectory: StandardFolder.data())
        switch (documents, broker) {
        case (.sqlite, _):
            throw CohortError(
                .invalid,
                "the embedded broker and database belong to one `cohort serve`, which coordinates by itself; a coordinator apart needs a shared COHORT_DATABASE_URL, COHORT_BROKER_URL and COHORT_OBJECTS_URL, which this version does not have yet"
            )
        }
    }
}
