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
        let watch = try await watch(try context.parameters.require("id"), caller)
        return .eventStream(request, buffering: .bufferingNewest(1_000)) { try await watch.run(into: $0) }
    }

    /// The maximum number of sessions that one stream follows.
    private static let maxFollowed = 100

    /// One stream of several sessions' events, and of the pool's: a browser opens few connections to a host.
    func allEvents(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let ids = Set((request.query("sessions") ?? "").split(separator: ",").map(String.init))
        guard ids.count <= Self.maxFollowed else {
            throw CohortError(.invalid, "sessions has \(ids.count) ids; one stream follows at most \(Self.maxFollowed)")
        }
        let withPeers = request.query("peers") ?? "false"
        guard ["true", "false"].contains(withPeers) else {
            throw CohortError(.invalid, "peers is '\(withPeers.printable(max: 40))'; it must be true or false")
        }
        var watches: [SessionWatch] = []
        for id in ids { watches.append(try await watch(id, caller)) }
        let pool = withPeers == "true" ? PoolWatch(parts: parts, userId: caller.userId, isShared: configuration.isShared) : nil
        return .eventStream(request, buffering: .bufferingNewest(1_000)) { [watches] sink in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for watch in watches { group.addTask { try await watch.run(into: sink) } }
                if let pool { group.addTask { try await pool.run(into: sink) } }
                // A stream that has told all stays open: the client would come back otherwise.
                group.addTask { try await parts.time.sleep(seconds: 86_400) }
                try await group.waitForAll()
            }
        }
    }

    /// Subscribes to a session's notices, and then reads it: nothing is lost between the two.
    private func watch(_ id: String, _ caller: Caller) async throws -> SessionWatch {
        let chunks = await broadcast.subscribe(sessionId: id)
        return SessionWatch(
            session: try await session(id: id, caller), chunks: chunks, documents: documents, time: parts.time,
            isShared: configuration.isShared)
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
