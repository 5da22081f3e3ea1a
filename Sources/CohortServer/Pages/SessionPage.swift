import CohortAPI
import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// One session: live while it runs, and what came of it.
struct SessionPage: Sendable {
    let pages: WebPages
    let documents: any Documents
    let strategies: [any Strategy]
    let objects: any ObjectStore
    /// The folder for the rows that are looked at.
    let folder: String
    /// Reading rows blocks its thread.
    private let lanes = BlockingLanes("rows of data", count: 1, limit: 32)

    init(pages: WebPages, documents: any Documents, strategies: [any Strategy], objects: any ObjectStore, folder: String) {
        self.pages = pages
        self.documents = documents
        self.strategies = strategies
        self.objects = objects
        self.folder = folder
    }

    /// - Throws: ``CohortError`` `notFound` when the caller has no such session.
    private func session(_ request: Request, _ context: Context) async throws -> Session {
        let caller = try await pages.authenticator.caller(of: request, scope: .user)
        let id = try context.parameters.require("id")
        guard let session = try await documents.session(id: id), session.ownerId == caller.userId else {
            throw CohortError(.notFound, "there is no session '\(id.printable(max: 60))' of yours")
        }
        return session
    }

    /// Bytes of the data's beginning that rows are taken from, and the number of rows.
    private static let (sampleBytes, sampleRows) = (1 << 20, 50)

    /// Rows of the data while it is kept; none of tensors.
    private func sample(of session: Session) async throws -> TableSample {
        guard let upload = session.upload, let schemaObject = session.dataset?.schemaObject, try await objects.size(of: upload.key) != nil
        else { return .empty }
        let schema = try CohortJSON.decode(TableSchema.self, from: try await objects.get(schemaObject.key))
        var bytes: [UInt8] = []
        for try await chunk in try await objects.read(upload.key, from: 0) {
            bytes += chunk
            if bytes.count >= Self.sampleBytes { break }
        }
        let (csv, isWhole) = (bytes, bytes.count >= upload.bytes)
        return try await lanes.run { [folder] in
            try CSVLook.withBeginning(of: csv, isWhole: isWhole, folder: folder) { path, _ in
                try TableSample.read(csvAt: path, schema: schema, count: Self.sampleRows)
            } ?? .empty
        }
    }

    var routes: [Route] {
        [
            pages.route(.get, "/app/curves/{id}", summary: "The curves of a session's page") { request, context in
                let session = try await session(request, context)
                return try .json(try await SessionCurves(of: session, documents: documents))
            },
            pages.route(.get, "/app/rows/{id}", summary: "Some rows of a session's data, for its owner to try the model with") {
                request, context in
                try .json(try await sample(of: try await session(request, context)))
            },
            pages.route(.get, "/app/session/{id}", summary: "The page of a session") { request, context in
                let id = try context.parameters.require("id")
                guard let person = try await pages.person(request) else {
                    return pages.redirect(
                        to: "/app/signin?next=/app/session/\(id.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })")
                }
                guard let session = try await documents.session(id: id), session.ownerId == person.id else {
                    return pages.page(
                        request, template: "problem", title: "Not found", person: person.name, status: .notFound,
                        values: ["detail": "There is no session '\(id.printable(max: 60))' of yours."])
                }
                return pages.page(
                    request, template: "session", title: session.settings.name ?? session.filename, person: person.name,
                    scripts: ["session.js"],
                    values: [
                        "id": session.id, "short": String(session.id.prefix(8)), "name": session.settings.name ?? session.filename,
                        "state": API.TrainingStatus(session).message, "progress": "\(session.progress)",
                        "own": "\(strategies.first { $0.name == session.settings.strategy }?.trainsOwnModels == true)",
                    ])
            },
        ]
    }
}
