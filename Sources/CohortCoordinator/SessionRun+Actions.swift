import CohortCore
import CohortTraining
import FoundationEssentials
import Logging

/// What the machine wants done.
extension SessionRun {
    func act(on action: SessionMachine.Action, _ machine: inout SessionMachine) async throws -> [SessionMachine.Action] {
        let session = machine.session
        switch action {
        case .enable(let peerId):
            let queue = QueueName.command(peerId: peerId)
            try await coordinator.broker.declare(queue)
            try await send(
                .enable(EnableCommand(queue: session.eventQueue.rawValue, sessionId: id, generation: session.generation)), to: peerId)
        case .stop(let peerIds, let reason):
            for peerId in peerIds { try await send(.stop(StopCommand(sessionId: id, reason: reason)), to: peerId) }
        case .aggregate(let outcome):
            let weights = try await updates.aggregate(outcome, of: session)
            return machine.handle(.aggregated(weights), now: Date())
        case .discard(let keys):
            await discard(keys, session)
        case .conclude(let weights, let metrics):
            let object = try await updates.conclude(session, weights: weights, metrics: metrics)
            return machine.handle(.concluded(object, metrics), now: Date())
        case .raiseGeneration:
            guard let stored = try await takeLease(renewing: nil) else { throw LeaseLost() }
            machine.take(over: stored)
            // Everybody must hear the new generation.
            for peer in machine.session.peers where peer.isAlive {
                try await send(
                    .enable(EnableCommand(queue: session.eventQueue.rawValue, sessionId: id, generation: stored.generation)), to: peer.id)
            }
        case .claim(let count):
            return try await claim(count, &machine)
        case .free(let peerId):
            try await documents.free(peerId: peerId, sessionId: id)
        case .train, .record, .accept, .summarize:
            break
        case .tell(let notice):
            logger.info("\(notice.message)")
            await coordinator.feed.publish(notice)
        case .end:
            try await documents.freePeers(ofSession: id)
            try await coordinator.broker.delete(session.eventQueue)
            await removeWorkings(session)
            await removeUpload(session)
        }
        return []
    }

    func train(_ peerId: String, _ machine: SessionMachine, _ commands: TrainCommandBuilder) async throws {
        guard let peer = machine.session.peers.first(where: { $0.id == peerId && $0.state == .training }) else { return }
        // Until it has answered once, it may not have the schema.
        let command = try await commands.command(for: peer, timeLimit: machine.timeLimit, tellsSchema: peer.trainedSamples == 0)
        try await send(.train(command), to: peerId)
    }

    /// The schema travels as an object, by its hash, beside the message; stored once a run.
    func commandBuilder(_ session: Session) async throws -> TrainCommandBuilder {
        guard let dataset = session.dataset, let model = session.model else {
            throw CohortError(.internal, "session \(session.id) trains without a data set")
        }
        if schema == nil { schema = try await SchemaObject(of: dataset.schema, sessionId: session.id, in: coordinator.objects) }
        guard let schema else { throw CohortError(.internal, "session \(session.id) trains without a schema") }
        return try await TrainCommandBuilder(
            session: session, dataset: dataset, model: model, schema: schema,
            weights: try session.weights.flatMap { try updates.smallFile(of: $0, model) }, objects: coordinator.objects,
            expiry: Date().addingTimeInterval(configuration.linkSeconds))
    }

    private func send(_ command: Command, to peerId: String) async throws {
        try await coordinator.broker.publish(CohortJSON.encode(command), to: .command(peerId: peerId))
    }

    /// Peers that are back come first, then the fastest.
    private func claim(_ count: Int, _ machine: inout SessionMachine) async throws -> [SessionMachine.Action] {
        let session = machine.session
        let places = Dictionary(session.peers.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        let candidates = try await documents.peers().filter { peer in
            peer.status == .online && peer.sessionId == nil && places[peer.id]?.isAlive != true && places[peer.id]?.state != .failed
        }.sorted { a, b in
            let (x, y) = (places[a.id] != nil, places[b.id] != nil)
            return x == y ? (b.capabilities.samplesPerSecond, a.id) < (a.capabilities.samplesPerSecond, b.id) : x
        }
        var actions: [SessionMachine.Action] = []
        var left = count
        for peer in candidates where left > 0 {
            guard try await documents.claim(peerId: peer.id, sessionId: id) else { continue }
            left -= 1
            actions += machine.handle(.joined(peer), now: Date())
        }
        return actions
    }

    /// Small ones in bulk: a round in which nobody waits for much should not wait for a disk.
    private func discard(_ keys: [String], _ session: Session) async {
        discarded += keys
        let bytes = discarded.count * 4 * (session.model?.parameterCount ?? 0)
        guard bytes > 16 << 20 || discarded.count >= 200 else { return }
        await remove(discarded)
        discarded = []
    }

    // MARK: Leftovers. What cannot be removed now is only logged: it harms nobody.

    /// Updates, and checkpoints that the document does not name.
    private func removeWorkings(_ session: Session) async {
        do {
            let kept = Set((session.checkpoints.map(\.weights) + [session.weights, session.best?.weights].compactMap { $0 }).map(\.key))
            let checkpoints = try await coordinator.objects.list(prefix: "checkpoints/\(id)/").filter { !kept.contains($0) }
            await remove(try await coordinator.objects.list(prefix: "updates/\(id)/") + checkpoints)
        } catch {
            logger.warning("updates are left over: \(error)")
        }
    }

    private func remove(_ keys: [String]) async {
        do {
            try await coordinator.objects.delete(keys)
        } catch {
            logger.warning("some of \(keys.joined(separator: ", ")) are left over: \(error)")
        }
    }

    /// The upload is a copy once the data set is an object; of a session that failed before, it stays for a look.
    private func removeUpload(_ session: Session) async {
        guard session.dataset != nil, let path = session.uploadPath, FileManager.default.fileExists(atPath: path) else { return }
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            logger.warning("\(path) is left over: \(error)")
        }
    }
}
