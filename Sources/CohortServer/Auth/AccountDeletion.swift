import CohortCore
import CohortSession
import CohortWire

/// Removes a session that has ended, with its objects. They go first: what is left after a fault can be deleted again. But for the upload, which other
/// sessions may share: it is removed once no document names it, so that a session which begins to share it either finds it or fails with `notFound`.
struct SessionRemoval: Sendable {
    let documents: any Documents
    let objects: any ObjectStore

    func remove(_ session: Session) async throws {
        var keys = [
            session.dataset?.schemaObject?.key, session.weights?.key,
            session.best?.weights.key, session.modelObject?.key, session.startWeights?.key,
        ].compactMap { $0 }
        keys += session.checkpoints.map(\.weights.key)
        keys += try await objects.list(prefix: session.updatePrefix)
        try await objects.delete(Set(keys).sorted())
        try await documents.deleteSession(id: session.id)
        // Cut short here, it is an upload that no session names, which coordinators remove after a day.
        let uploads = Set([session.upload?.key, session.dataset?.object.key].compactMap { $0 })
        let used = try await documents.usedUploads(of: uploads.sorted(), besides: nil)
        try await objects.delete(uploads.subtracting(used).sorted())
    }
}

/// Deletes an account with all that is its own: sessions with their data and models, modules, join tokens, machines. The account itself goes
/// last: what a fault interrupts is asked for again.
struct AccountDeletion: Sendable {
    let parts: ServerParts
    let modules: ModuleStore

    /// Seconds in which the account's running sessions may end.
    static let patience = 20.0

    /// - Throws: ``CohortError`` `unavailable` when a session is still ending: ask again.
    func delete(_ user: User) async throws {
        let documents = parts.documents
        try await cancelSessions(of: user)
        let removal = SessionRemoval(documents: documents, objects: parts.objects)
        while case let sessions = try await documents.sessions(ownerId: user.id, limit: 100), !sessions.isEmpty {
            for session in sessions {
                guard session.status.isFinal, session.isEnding != true else { throw Self.stillEnding }
                try await removal.remove(session)
            }
        }
        for hash in try await modules.hashes(of: user.id) {
            try await modules.delete(try await modules.object(hash, of: user.id, field: "module"))
        }
        for peer in try await documents.peers() where peer.ownerId == user.id {
            // A session of another account goes on without it.
            try await documents.setOffline(peerId: peer.id, registration: nil, hasLeft: true)
            try await documents.deletePeer(id: peer.id)
        }
        await parts.runner.peersChanged()
        await parts.feed.poolChanged()
        try await documents.deleteUser(id: user.id)
    }

    private func cancelSessions(of user: User) async throws {
        let deadline = parts.time.monotonic + Self.patience
        while true {
            let running = try await parts.documents.sessions(ownerId: user.id, limit: 10_000).filter {
                !$0.status.isFinal || $0.isEnding == true
            }
            guard !running.isEmpty else { return }
            for session in running where !session.status.isFinal && !session.cancelRequested {
                _ = try await parts.documents.requestCancel(sessionId: session.id)
                await parts.runner.wake(sessionId: session.id)
            }
            guard parts.time.monotonic < deadline else { throw Self.stillEnding }
            // Another server's coordinator may end it, of which only the documents tell.
            try await parts.time.sleep(seconds: 0.1)
        }
    }

    private static let stillEnding = CohortError(
        .unavailable, "sessions of this account are still ending: nothing else was deleted yet; try again in a moment")
}
