import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import NIOCore

/// The events of one session for one viewer: where it stands, then each notice until it has ended.
struct SessionWatch: Sendable {
    let session: Session
    /// Its notices from before the session was read.
    let chunks: AsyncStream<SessionBroadcast.Chunk>
    let documents: any Documents
    let time: any TimeSource
    /// Other servers' coordinators send notices as well.
    let isShared: Bool

    func run(into sink: AsyncStream<ByteBuffer>.Continuation) async throws {
        let opening = opening
        let said = Set(opening.dropFirst().map(\.message))
        for notice in opening { sink.yield(try Self.event(notice)) }
        guard !session.status.isFinal else { return }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for await chunk in chunks {
                    if let buffer = chunk.without(notes: said) { sink.yield(buffer) }
                    if chunk.isFinal { break }
                }
            }
            // A notice from another server's coordinator may be lost; the end of the session is not.
            if isShared { group.addTask { try await watchForEnd(in: sink) } }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// The status, and the notices about the data from before the first subscriber.
    private var opening: [SessionNotice] {
        let about = session.status == .running ? session.dataset?.words(isTargetGiven: session.settings.target != nil) : session.error
        let words = API.TrainingStatus(session).message + (about.map { ": \($0)" } ?? "")
        return [status(of: session, words: words)]
            + (session.dataset?.warnings ?? []).map {
                SessionNotice(sessionId: session.id, kind: .note, time: time.date, message: "Data: \($0)")
            }
    }

    private func status(of session: Session, words: String) -> SessionNotice {
        var notice = SessionNotice(sessionId: session.id, kind: .status, time: time.date, message: words)
        notice.status = session.status
        notice.progress = session.progress
        notice.round = session.round
        return notice
    }

    /// Returns when the session has ended, having sent that.
    private func watchForEnd(in sink: AsyncStream<ByteBuffer>.Continuation) async throws {
        while true {
            // Nothing signals a lost notice; the coordinators' sweep has the same interval.
            try await time.sleep(seconds: 15)
            // A store that is unavailable is asked again.
            guard let session = try? await documents.session(id: session.id), session.status.isFinal else { continue }
            sink.yield(try Self.event(status(of: session, words: API.TrainingStatus(session).message)))
            return
        }
    }

    private static func event(_ notice: SessionNotice) throws -> ByteBuffer {
        StreamedEvent(id: nil, name: notice.kind.rawValue, data: try CohortJSON.encode(notice)).buffer
    }
}
