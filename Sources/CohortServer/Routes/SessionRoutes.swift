import CohortAPI
import CohortCore
import CohortSession
import CohortTracing
import CohortWire
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging
import NIOCore

/// Sessions: start, watch, cancel, results, model, predictions. A user sees only their own: another's is not there.
struct SessionRoutes: Sendable {
    let parts: ServerParts
    let presence: PresenceMonitor
    let configuration: ServerConfiguration
    let uploads: UploadReceiver
    let models: ModelShelf
    let modules: ModuleStore
    let metrics: ServerMetrics
    let filePredictions: FilePredictions
    let broadcast: SessionBroadcast

    var documents: any Documents { parts.documents }

    var routes: [Route] {
        [
            .user(.post, "/sessions/start", summary: "Upload a CSV and start training", start),
            .user(.post, "/sessions/check", summary: "Whether a session could start now", check),
            .user(.get, "/sessions", summary: "List one's sessions, newest first") { request, _, caller in
                let limit = try request.number("limit", in: 1...1_000) ?? 100
                let before = request.query("before")
                if let before { _ = try await session(id: before, caller) }
                return try .json(
                    try await documents.sessionSummaries(ownerId: caller.userId, limit: limit, before: before))
            },
            .user(.get, "/sessions/training-status", summary: "How far a session is; without session_id the newest", status),
            .user(.get, "/sessions/{id}", summary: "One session") { _, context, caller in
                let session = try await session(context, caller)
                return try .json(API.SessionView(try await withSchema(session), rounds: try await documents.rounds(sessionId: session.id)))
            },
            .user(.delete, "/sessions/{id}", summary: "Delete a session that has ended, with its data and its model", remove),
            .user(.get, "/sessions/{id}/events", summary: "Live events", events),
            .user(.get, "/events", summary: "Live events of several sessions and of the pool", allEvents),
            .user(.get, "/peers/events", summary: "Live changes of the pool") { request, _, caller in
                let watch = PoolWatch(parts: parts, userId: caller.userId, isShared: configuration.isShared)
                return .eventStream(request, buffering: .bufferingNewest(1_000)) { try await watch.run(into: $0) }
            },
            .user(.post, "/sessions/{id}/cancel", summary: "Cancel", cancel),
            .user(.get, "/sessions/{id}/results", summary: "What came out") { _, context, caller in
                let session = try await session(context, caller)
                guard let results = session.results else { throw missing(session, "results") }
                return try .json(API.Results(session, results, history: try await documents.rounds(sessionId: session.id)))
            },
            .user(.get, "/sessions/{id}/receipt", summary: "What the model was made of: every round's updates and weights") {
                _, context, caller in
                let session = try await session(context, caller)
                guard let receipt = SessionReceipt(session, rounds: try await documents.rounds(sessionId: session.id)) else {
                    throw missing(session, "receipt")
                }
                return try .json(receipt)
            },
            .user(.get, "/sessions/{id}/update", summary: "One of the receipt's files, by its key", update),
            .user(.get, "/sessions/{id}/card", summary: "The model's card, as Markdown") { _, context, caller in
                let session = try await session(context, caller)
                guard session.modelObject != nil, let results = session.results else { throw missing(session, "model card") }
                return .text(ModelCard.text(try await withSchema(session), results), type: "text/markdown; charset=utf-8")
            },
            .user(.get, "/sessions/{id}/metrics", summary: "The time series, as JSON or CSV", series),
            .user(.get, "/sessions/{id}/model", summary: "The model file", model),
            .user(.post, "/sessions/{id}/predict", summary: "Predict rows", predict),
            .user(.post, "/sessions/{id}/predictions", summary: "Predict a whole CSV, which comes back with columns added") {
                request, context, caller in
                var isAnswered = false
                // A body that was not read to its end would be taken for the next request.
                defer { if !isAnswered { context.closeSoon() } }
                let session = try await session(context, caller)
                guard let object = session.modelObject else { throw missing(session, "model") }
                let allowMissing = request.query("allow_missing") ?? "false"
                guard ["true", "false"].contains(allowMissing) else {
                    throw CohortError(.invalid, "allow_missing is '\(allowMissing.printable(max: 40))'; it must be true or false")
                }
                let answer = try await filePredictions.answer(
                    request, allowMissing: allowMissing == "true", with: object, filename: "predictions-\(session.id.prefix(8)).csv")
                isAnswered = true
                return answer
            },
        ] + labelRoutes
    }

    func session(_ context: Context, _ caller: Caller) async throws -> Session {
        try await session(id: try context.parameters.require("id"), caller)
    }

    func session(id: String, _ caller: Caller) async throws -> Session {
        guard let session = try await documents.session(id: id), session.ownerId == caller.userId else {
            throw CohortError(.notFound, "there is no session '\(id.prefix(60))' of yours")
        }
        return session
    }

    /// Adds the schema, which is a separate object.
    func withSchema(_ session: Session) async throws -> Session {
        guard let object = session.dataset?.schemaObject else { return session }
        var session = session
        session.dataset?.schema = try CohortJSON.decode(TableSchema.self, from: try await parts.objects.get(object.key))
        return session
    }

    func missing(_ session: Session, _ what: String) -> CohortError {
        switch session.status {
        case .pending, .running: CohortError(.conflict, "the session is not finished yet: wait for its end to get the \(what)")
        case .completed: CohortError(.notFound, "the session has no \(what)")
        case .failed: CohortError(.conflict, "the session failed before it had the \(what): \(session.error ?? "")")
        case .cancelled: CohortError(.conflict, "the session was cancelled before it had the \(what)")
        }
    }
}
