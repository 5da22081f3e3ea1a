import ArgumentParser
import CohortCore

struct Coordinate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a coordinator apart from the API servers, where database, broker and object store are shared.")

    @OptionGroup var common: CommonOptions

    func run() async throws {
        let settings = try await common.settings()
        let data = StandardFolder.data()
        let documents = try DocumentsChoice(url: settings.text("database_url"), dataDirectory: data)
        let broker = try BrokerChoice(url: settings.text("broker_url"))
        let objects = try ObjectsChoice(url: settings.text("objects_url"), dataDirectory: data)
        guard documents.isShared, broker.isShared, objects.isShared else {
            throw CohortError(
                .invalid,
                "an embedded database, broker or object store belongs to one `cohort serve`, which coordinates by itself; a coordinator apart needs a shared COHORT_DATABASE_URL, COHORT_BROKER_URL and COHORT_OBJECTS_URL"
            )
        }
        throw CohortError(.invalid, "this version of Cohort cannot run coordinators apart from servers yet: `cohort serve` coordinates")
    }
}
