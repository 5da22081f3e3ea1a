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

/// The status and the live events of a session, and its cancellation.
extension SessionRoutes {
    func status(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        if let id = request.query("session_id") { return try .json(API.TrainingStatus(try await session(id: id, caller))) }
        guard let newest = try await documents.sessions(ownerId: caller.userId, limit: 1).first else {
            throw CohortError(.notFound, "you have no sessions yet: start one with `cohort train FILE` (POST /sessions/start)")
        }
        return try .json(API.TrainingStatus(newest))
    }

    func events(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
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

    func cancel(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        guard !session.status.isFinal, let stored = try await documents.requestCancel(sessionId: session.id), !stored.status.isFinal else {
            throw CohortError(.conflict, "the session has ended already: it is \(session.status.rawValue)")
        }
        await parts.runner.wake(sessionId: session.id)
        return try .json(API.TrainingStatus(stored), status: .accepted)
    }
}
