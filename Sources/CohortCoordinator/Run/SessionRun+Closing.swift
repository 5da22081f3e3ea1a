import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import CohortWire
import FoundationEssentials
import Logging

/// The end of a session.
extension SessionRun {
    /// Cleans up after the final status is stored: stops and frees the peers, removes the queue and temporary objects, and makes a model of the last
    /// checkpoint where the session has none. Every step may be repeated; the document records when all are done.
    /// - Parameter givesUp: after many attempts, objects that remain are logged and kept.
    func finish(_ session: Session, givesUp: Bool) async throws {
        var session = session
        let reason: StopCommand.Reason =
            switch session.status {
            case .completed: .completed
            case .cancelled: .cancelled
            default: .failed
            }
        for peer in session.peers where peer.isAlive {
            do {
                try await coordinator.transport.send(.stop(StopCommand(sessionId: id, reason: reason)), to: peer.id)
            } catch {
                logger.warning("\(peer.name) could not be notified that the session is over: \(error)")
            }
        }
        try await documents.freePeers(ofSession: id)
        await coordinator.feed.poolChanged()
        try await coordinator.transport.close(session.eventQueue)
        for prefix in [session.updatePrefix, session.checkpointPrefix] { try await coordinator.objects.closeLinks(prefix: prefix) }
        // Other sessions may be trained on the same data set.
        try await coordinator.objects.closeLinks(scope: id)
        if session.modelObject == nil, let weights = session.best?.weights ?? session.weights {
            do {
                let metrics = session.best?.validation ?? session.checkpoints.last?.validation ?? Metrics(loss: nil, samples: 0)
                session.modelObject = try await aggregator.writeModelFile(
                    session, weights: weights, metrics: metrics, evaluation: await evaluation(of: weights, session))
                session.modelVersion = try await documents.takeModelVersion(of: session)
            } catch let error where givesUp || !Self.isTransient(error) {
                logger.warning("no model can be made of the last checkpoint: \(error)")
            }
        }
        do {
            try await removeWorkings(session)
        } catch let error where givesUp {
            logger.warning("files and objects of the session are left over: \(error)")
        }
        FreedMemory.giveBack()
        session.isEnding = nil
        _ = try await documents.update(session)
        traceEnd(session)
    }

    /// Returns whether a retry may succeed.
    private static func isTransient(_ error: any Error) -> Bool {
        guard let error = error as? CohortError else { return true }
        return [.unavailable, .internal, .storageFull].contains(error.code)
    }

    /// Removes unused objects; small ones in bulk, so that short rounds do not wait for the disk.
    func discard(_ keys: [String], _ session: Session) async {
        guard !keys.isEmpty else { return }
        discarded += keys
        let bytes = discarded.count * 4 * (session.updateLayout?.count ?? 0)
        guard bytes > 16 << 20 || discarded.count >= 200 else { return }
        do {
            try await coordinator.objects.delete(discarded)
        } catch {
            // They are removed at the end of the session.
            logger.warning("\(discarded.count) objects are left until the end: \(error)")
        }
        discarded = []
    }

    /// Removes the table, updates, checkpoints that the document does not name, and an upload that never became a data set.
    private func removeWorkings(_ session: Session) async throws {
        let kept = Set((session.checkpoints.map(\.weights) + [session.weights, session.best?.weights].compactMap { $0 }).map(\.key))
        let checkpoints = try await coordinator.objects.list(prefix: session.checkpointPrefix).filter { !kept.contains($0) }
        var keys = try await checkpoints + coordinator.objects.list(prefix: StoredTable.prefix(sessionId: id))
        if session.settings.keepUpdates == true {
            let counted = Set(try await documents.rounds(sessionId: id).flatMap { $0.contributions ?? [] }.compactMap(\.key))
            keys += try await coordinator.objects.list(prefix: session.updatePrefix).filter { !counted.contains($0) }
            keys.removeAll { $0 == session.startWeights?.key }
        } else {
            keys += try await coordinator.objects.list(prefix: session.updatePrefix)
        }
        // The upload is unused, unless another session was trained on it.
        if session.dataset == nil, let upload = session.upload,
            try await documents.usedUploads(of: [upload.key], besides: id).isEmpty
        {
            keys.append(upload.key)
        }
        if !keys.isEmpty { try await coordinator.objects.delete(keys) }
    }
}
