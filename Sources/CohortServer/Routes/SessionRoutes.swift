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

    private var documents: any Documents { parts.documents }

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
        ]
    }

    private func session(_ context: Context, _ caller: Caller) async throws -> Session {
        try await session(id: try context.parameters.require("id"), caller)
    }

    private func session(id: String, _ caller: Caller) async throws -> Session {
        guard let session = try await documents.session(id: id), session.ownerId == caller.userId else {
            throw CohortError(.notFound, "there is no session '\(id.prefix(60))' of yours")
        }
        return session
    }

    /// Adds the schema, which is a separate object.
    private func withSchema(_ session: Session) async throws -> Session {
        guard let object = session.dataset?.schemaObject else { return session }
        var session = session
        session.dataset?.schema = try CohortJSON.decode(TableSchema.self, from: try await parts.objects.get(object.key))
        return session
    }

    private func missing(_ session: Session, _ what: String) -> CohortError {
        switch session.status {
        case .pending, .running: CohortError(.conflict, "the session is not finished yet: wait for its end to get the \(what)")
        case .completed: CohortError(.notFound, "the session has no \(what)")
        case .failed: CohortError(.conflict, "the session failed before it had the \(what): \(session.error ?? "")")
        case .cancelled: CohortError(.conflict, "the session was cancelled before it had the \(what)")
        }
    }

    // MARK: Start

    private func start(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        var isAnswered = false
        // A body that was not read to its end would be taken for the next request.
        defer { if !isAnswered { context.closeSoon() } }
        guard try await documents.user(id: caller.userId) != nil else {
            throw CohortError(.notFound, "the user of this token does not exist any more: sign up again")
        }
        let strategies = configuration.strategies
        let form = try await uploads.receive(request) { fields in
            // What came before the file; a field after it is looked at with all the others.
            let settings = try SettingsForm.settings(fields.merging(["min_peers": ""]) { given, _ in given }, strategies: strategies)
            _ = try await module(settings, caller)
            // A busy pool is no reason to send a long file.
            if fields["peers"] != nil { _ = try await starts.check(settings, ownerId: caller.userId) }
        }
        isAnswered = true
        if form.upload != nil, form.fields["sha256"] != nil {
            throw CohortError(.invalid, "sha256 stands for a file that was uploaded before: send that or the file, not both")
        }
        metrics.count("uploads")
        let settings: SessionSettings
        let moduleObject: ObjectReference?
        do {
            settings = try SettingsForm.settings(form.fields, strategies: strategies)
            moduleObject = try await module(settings, caller)
        } catch {
            await forget(form.upload)
            throw error
        }
        let session = try await start(settings, form: form, module: moduleObject, caller: caller)
        await parts.runner.wake(sessionId: session.id)
        return try .json(API.SessionStarted(session), status: .created)
    }

    private func module(_ settings: SessionSettings, _ caller: Caller) async throws -> ObjectReference? {
        guard let hash = settings.module else { return nil }
        return try await modules.object(hash, of: caller.userId, field: "module")
    }

    private var starts: SessionStart {
        SessionStart(documents: documents, time: parts.time, poolShare: configuration.poolShare, hearing: presence.hearing)
    }

    /// Validates settings and checks that enough peers are free, before a file is sent.
    private func check(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        var fields: [String: String] = [:]
        for (name, value) in try await request.json([String: JSONScalar].self) {
            guard let text = value.cell else { continue }
            fields[name] = text
        }
        let sha256 = fields.removeValue(forKey: "sha256")
        let settings = try SettingsForm.settings(fields, strategies: configuration.strategies)
        _ = try await module(settings, caller)
        let free = try await starts.check(settings, ownerId: caller.userId)
        let isKnown = if let sha256 { try await !sessions(on: sha256, caller).isEmpty } else { false }
        return try .json(API.SessionCheck(free: free, isKnown: isKnown))
    }

    /// The person's newest sessions that were trained on a file of these bytes.
    private func sessions(on sha256: String, _ caller: Caller) async throws -> [Session] {
        try await documents.sessions(ownerId: caller.userId, limit: 200).filter { $0.upload?.sha256 == sha256 && $0.dataset != nil }
    }

    /// Starts a session on the uploaded file, or on the stored one with the same bytes.
    private func start(
        _ settings: SessionSettings, form: UploadReceiver.Form, module: ObjectReference?, caller: Caller
    ) async throws -> Session {
        func start(on upload: ObjectReference, isShared: Bool) async throws -> Session {
            try await starts.start(
                settings, ownerId: caller.userId, upload: upload, sharesUpload: isShared, filename: form.filename, module: module,
                traceparent: TraceParent.current?.text)
        }
        do {
            var tried: Set<String> = []
            for earlier in try await sessions(on: form.upload?.sha256 ?? form.fields["sha256"] ?? "", caller) {
                guard let upload = earlier.upload, tried.insert(upload.key).inserted, try await parts.objects.size(of: upload.key) != nil
                else {
                    continue
                }
                do {
                    let session = try await start(on: upload, isShared: true)
                    await forget(form.upload)
                    return session
                } catch is SessionStart.UploadIsGone {
                    // It was deleted since; another session may have one.
                }
            }
            guard let sent = form.upload else {
                throw CohortError(.notFound, "none of your sessions has a file with this sha256: send the file")
            }
            return try await start(on: sent, isShared: false)
        } catch {
            await forget(form.upload)
            throw error
        }
    }

    /// Removes an upload without a session. A failure is not reported: the sweep removes it later.
    private func forget(_ upload: ObjectReference?) async {
        guard let upload else { return }
        do { try await parts.objects.delete(upload.key) } catch { parts.logger.warning("the upload \(upload.key) is left over: \(error)") }
    }

    private func remove(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        var session = try await session(context, caller)
        guard session.status.isFinal else {
            throw CohortError(.conflict, "the session is \(session.status.rawValue): cancel it first, and delete it when it has ended")
        }
        // It has ended, which its owner has seen; its peers are being told.
        let deadline = parts.time.monotonic + 3
        while session.isEnding == true {
            guard parts.time.monotonic < deadline else {
                throw CohortError(.unavailable, "the session has ended, and its peers are still being told: try again in a moment")
            }
            try await parts.time.sleep(seconds: 0.05)
            session = try await self.session(context, caller)
        }
        try await SessionRemoval(documents: documents, objects: parts.objects).remove(session)
        return .noContent
    }

    // MARK: Watch

    private func status(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        if let id = request.query("session_id") { return try .json(API.TrainingStatus(try await session(id: id, caller))) }
        guard let newest = try await documents.sessions(ownerId: caller.userId, limit: 1).first else {
            throw CohortError(.notFound, "you have no sessions yet: start one with `cohort train FILE` (POST /sessions/start)")
        }
        return try .json(API.TrainingStatus(newest))
    }

    private func events(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        // Subscribed before the document is read: nothing falls between the two.
        let id = try context.parameters.require("id")
        let chunks = await broadcast.subscribe(sessionId: id)
        let session = try await session(id: id, caller)
        let about = session.status == .running ? session.dataset?.words(isTargetGiven: session.settings.target != nil) : session.error
        let words = API.TrainingStatus(session).message + (about.map { ": \($0)" } ?? "")
        var first = SessionNotice(sessionId: id, kind: .status, time: parts.time.date, message: words)
        first.status = session.status
        first.progress = session.progress
        first.round = session.round
        // Notices about the data from before the first subscriber.
        let opening =
            [first]
            + (session.dataset?.warnings ?? []).map {
                SessionNotice(sessionId: id, kind: .note, time: parts.time.date, message: "Data: \($0)")
            }
        let said = Set(opening.dropFirst().map(\.message))
        return .eventStream(request, buffering: .bufferingNewest(1_000)) { sink in
            for notice in opening { sink.yield(try event(notice)) }
            guard !session.status.isFinal else { return }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await chunk in chunks {
                        if let buffer = chunk.without(notes: said) { sink.yield(buffer) }
                        if chunk.isFinal { break }
                    }
                }
                // A notice from another server's coordinator may be lost; the end of the session is not.
                if configuration.isShared { group.addTask { try await watchForEnd(of: id, in: sink) } }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
    }

    /// Returns when the session has ended, having sent that.
    private func watchForEnd(of id: String, in sink: AsyncStream<ByteBuffer>.Continuation) async throws {
        while true {
            // Nothing signals a lost notice; the coordinators' sweep has the same interval.
            try await parts.time.sleep(seconds: 15)
            // A store that is unavailable is asked again.
            guard let session = try? await documents.session(id: id), session.status.isFinal else { continue }
            var last = SessionNotice(sessionId: id, kind: .status, time: parts.time.date, message: API.TrainingStatus(session).message)
            last.status = session.status
            last.progress = session.progress
            last.round = session.round
            sink.yield(try event(last))
            return
        }
    }

    private func event(_ notice: SessionNotice) throws -> ByteBuffer {
        StreamedEvent(id: nil, name: notice.kind.rawValue, data: try CohortJSON.encode(notice)).buffer
    }

    private func cancel(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        guard !session.status.isFinal, let stored = try await documents.requestCancel(sessionId: session.id), !stored.status.isFinal else {
            throw CohortError(.conflict, "the session has ended already: it is \(session.status.rawValue)")
        }
        await parts.runner.wake(sessionId: session.id)
        return try .json(API.TrainingStatus(stored), status: .accepted)
    }

    // MARK: What came out

    private func series(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        let points = try await documents.metrics(sessionId: session.id)
        let format = request.query("format") ?? (request.headers[.accept]?.contains("text/csv") == true ? "csv" : "json")
        switch format {
        case "json": return try .json(points)
        case "csv": return .text(Self.csv(points), type: "text/csv; charset=utf-8")
        default: throw CohortError(.invalid, "format is '\(format.prefix(40))'; it must be json or csv")
        }
    }

    private static func csv(_ points: [MetricPoint]) -> String {
        func number(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
        var text = "time,peer_id,peer_name,round,epoch,loss,accuracy,r2,samples_per_second\r\n"
        for point in points {
            let time = point.time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
            text +=
                "\(time),\(point.peerId ?? ""),\(point.peerName?.csvName ?? ""),\(point.round),\(point.epoch),\(number(point.loss)),\(number(point.accuracy)),\(number(point.r2)),\(number(point.samplesPerSecond))\r\n"
        }
        return text
    }

    private func model(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        guard let object = session.modelObject else { throw missing(session, "model") }
        let headers: HTTPFields = [.contentDisposition: "attachment; filename=\"\(session.id).safetensors\""]
        return try await .download(request, object, headers: headers) { try await parts.objects.read(object.key, from: $0) }
    }

    private func update(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        let key = request.query("key") ?? ""
        var object = session.startWeights?.key == key ? session.startWeights : nil
        if object == nil {
            let contributions = try await documents.rounds(sessionId: session.id).flatMap { $0.contributions ?? [] }
            object = contributions.first { $0.key == key }.map { ObjectReference(key: key, sha256: $0.sha256, bytes: 0) }
        }
        guard var object else {
            throw CohortError(.invalid, "key is '\(key.printable(max: 200))'; it must be a key of the session's receipt")
        }
        guard let bytes = try await parts.objects.size(of: key) else { throw CohortError(.notFound, "the update is not there any more") }
        object.bytes = bytes
        return try await .download(request, object) { try await parts.objects.read(key, from: $0) }
    }

    private func predict(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        guard let object = session.modelObject else { throw missing(session, "model") }
        let body = try await request.json(API.PredictRequest.self, fields: ["rows", "allow_missing"], upTo: 16 << 20)
        guard (1...10_000).contains(body.rows.count) else {
            throw CohortError(.invalid, "rows has \(body.rows.count) rows; it must have 1 to 10000")
        }
        return try .json(
            try await models.predict(body.rows.map { $0.mapValues(\.cell) }, allowMissing: body.allowMissing == true, with: object))
    }
}
