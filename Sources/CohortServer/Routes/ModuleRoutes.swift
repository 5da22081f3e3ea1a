import CohortAPI
import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Synchronization
import SystemPackage

/// Users' custom modules: each user sees their own. The server does not run them.
struct ModuleRoutes: Sendable {
    /// That a user may have here.
    private static let most = 100

    let shelf: ModuleStore
    /// Bytes of a file.
    let limit: Int
    /// The data folder.
    let folder: String

    var routes: [Route] {
        [
            .user(.post, "/modules", summary: "Upload a module of your own", add),
            .user(.get, "/modules", summary: "List one's modules") { _, _, caller in try .json(try await shelf.all(of: caller.userId)) },
            .user(.delete, "/modules/{sha256}", summary: "Delete a module; sessions that train it keep theirs") { _, context, caller in
                let hash = try context.parameters.require("sha256")
                try await shelf.delete(try await shelf.object(hash, of: caller.userId, field: "sha256"))
                return .noContent
            },
        ]
    }

    private func add(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        var isAnswered = false
        // A body that was not read to its end would be taken for the next request.
        defer { if !isAnswered { context.closeSoon() } }
        let file = try await BodyFile(
            request, at: TemporaryFiles.path("module", in: folder), limit: min(limit, ModuleFile.maxBytes),
            tooLarge: CohortError(.tooLarge, "the module's file is larger than \(min(limit, ModuleFile.maxBytes)) bytes"),
            what: "a module's file, as `cohort train --model` and Python's cohort.save_module make it")
        isAnswered = true
        let known = try await shelf.hashes(of: caller.userId)
        guard known.count < Self.most || known.contains(file.sha256) else {
            throw CohortError(.conflict, "you have \(known.count) modules here, and may have \(Self.most): delete one that you do not need")
        }
        return try .json(try await shelf.add(file, of: caller.userId), status: .created)
    }
}
