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

/// Starting and deleting sessions.
extension SessionRoutes {
    func start(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
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
        await parts.feed.poolChanged()
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
    func check(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
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

    func remove(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
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
}
