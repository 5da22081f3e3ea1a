import ArgumentParser
import CohortCore
import CohortSession
import CohortSystem
import FoundationEssentials
import Logging

struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write all that a server keeps into a folder.",
        discussion: """
            From the database and the object store that the settings name: those in --data-dir, or COHORT_DATABASE_URL and COHORT_OBJECTS_URL. \
            Stop the servers first. `cohort import` brings the folder into others: from SQLite to MongoDB, from a folder to S3, and back.
            """)

    @OptionGroup var stores: StoreOptions
    @Argument(help: "A new folder.")
    var folder: String

    func run() async throws {
        try await stores.with { documents, objects in
            let manifest = try await Exporter(documents: documents, objects: objects, archive: Archive(path: folder)).run()
            Terminal.printLine("exported \(manifest.text) to \(folder), which holds password hashes and people's data: keep it as safe")
        }
    }
}

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Bring in what `cohort export` wrote.",
        discussion: """
            They should be empty. Everything is read back and compared. One that was cut short goes on when it is run again. Keys of a server are not \
            in the folder: unless COHORT_JWT_SECRET is the same, people sign in again, and join tokens are made anew.
            """)

    @OptionGroup var stores: StoreOptions
    @Argument(help: "The folder that `cohort export` wrote.")
    var folder: String

    func run() async throws {
        try await stores.with { documents, objects in
            let manifest = try await Importer(documents: documents, objects: objects, archive: Archive(path: folder)).run()
            Terminal.printLine("imported \(manifest.text), all of it read back and the same")
        }
    }
}

/// Which stores, as `cohort serve` would have them.
struct StoreOptions: ParsableArguments {
    @OptionGroup var common: CommonOptions

    @Option(name: .customLong("data-dir"), help: "The server's folder (COHORT_DATA_DIR).")
    var dataDir: String?

    /// The server's folder is this process's meanwhile: no server runs on it.
    func with(_ body: (any Documents, any ObjectStore) async throws -> Void) async throws {
        let settings = try await common.settings()
        let logger = try common.logger(settings, label: "cohort")
        let path = settings.text("data_dir", flag: dataDir, default: "\(StandardFolder.data())/server")
        let documentsChoice = try DocumentsChoice(url: settings.text("database_url"), dataDirectory: path)
        let objectsChoice = try ObjectsChoice(url: settings.text("objects_url"), dataDirectory: path)
        let folder = try LockedFolder(path: path, role: "server")
        let documents = try await documentsChoice.open()
        let objects = try objectsChoice.open(folder, logger: logger).store
        do {
            try await documents.ready()
            try await objects.ready()
            try await body(documents, objects)
        } catch {
            try? await objects.close()  // The first error is the one to tell.
            try? await documents.close()  // As above.
            throw error
        }
        try await objects.close()
        try await documents.close()
    }
}

extension Archive.Manifest {
    fileprivate var text: String {
        func some(_ count: Int, _ what: String) -> String { "\(Figure.whole(count)) \(what)\(count == 1 ? "" : "s")" }
        return
            "\(some(documents.users, "user")), \(some(documents.tokens, "join token")), \(some(documents.peers, "peer")), \(some(documents.sessions, "session")) with \(some(documents.rounds, "round")) and \(some(documents.points, "point")), \(some(objects, "object")) (\(Figure.bytes(objectBytes)))"
    }
}
