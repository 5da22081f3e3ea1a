import CohortCore
import CohortSession
import CohortStrategies
import CohortTracing
import CohortTraining
import CohortWire
import FoundationEssentials
import Logging
import Tracing

/// Executes the machine's actions.
extension SessionRun {
    func make(_ task: SessionActions.ObjectTask, _ machine: inout SessionMachine) async throws -> SessionActions {
        switch task {
        case .aggregate(let outcome):
            do {
                let session = machine.session
                let began = time.date
                let outer = try StrategyCatalogue.named(session.settings.strategy).outerOptimizer(session.settings)
                var combined = try await updates.combine(outcome, of: session, outer: outer)
                if let harm = try await harm(in: outcome, combined: combined, outer: outer, of: machine) {
                    return machine.handle(.harmful(peerId: harm.peerId, reason: harm.reason), now: clock.now())
                }
                let aggregate = try await updates.finish(&combined, outer: outer)
                let aggregated = time.date
                // Late uploads are refused, unless they count in a later round.
                if !machine.isBuffered {
                    try await coordinator.objects.closeLinks(
                        prefix: "\(session.updatePrefix)g\(session.generation)-r\(session.round)-")
                }
                let counts = await measure(aggregate.parameters, of: session, isFinal: machine.hasOwnModels)
                traceRound(session, aggregation: began, measurement: aggregated)
                return machine.handle(
                    .aggregated(
                        aggregate.reference, measured: counts, outer: aggregate.outer, contributions: aggregate.contributions, of: outcome),
                    now: clock.now())
            } catch let diverged as UpdateReader.Diverged {
                return machine.handle(.failed(diverged.message), now: clock.now())
            } catch let changed as UpdateReader.Changed {
                return machine.handle(.aggregationFailed(peerId: changed.peerId, reason: changed.why), now: clock.now())
            }
        case .conclude(let weights, let metrics):
            let evaluation = await evaluation(of: weights, machine.session)
            let object = try await updates.conclude(
                machine.session, weights: weights, metrics: metrics, evaluation: evaluation)
            let version = try await documents.takeModelVersion(of: machine.session)
            return machine.handle(.concluded(model: object, metrics: metrics, evaluation: evaluation, version: version), now: clock.now())
        }
    }

    /// Finds the conspicuous update without which the model is clearly better on held-out rows, if there is one.
    private func harm(
        in outcome: RoundOutcome, combined: UpdateReader.Combined, outer: OuterOptimizer?, of machine: SessionMachine
    ) async throws -> (peerId: String, reason: String)? {
        let suspects = machine.suspects(outcome, combined.contributions)
        let settings = machine.session.settings
        // A harmful stream shows in the first steps of the next round.
        let isMoved = suspects.contains(where: \.hasLongStream)
        func probe(_ combined: UpdateReader.Combined) -> [Float] {
            isMoved ? combined.parametersMovedByStreams(settings) : combined.parameters
        }
        guard !suspects.isEmpty, let with = await measure(probe(combined), of: machine.session, isFinal: false)?.loss else {
            return nil
        }
        var worst: (peerId: String, reason: String)?
        var least = machine.harmlessLoss(with)
        for suspect in suspects {
            let others = try await updates.combine(outcome.without([suspect.peerId]), of: machine.session, outer: outer)
            guard let without = await measure(probe(others), of: machine.session, isFinal: false)?.loss, without < least else {
                continue
            }
            least = without
            func rounded(_ loss: Double) -> Double { (loss * 1_000).rounded() / 1_000 }
            worst = (
                suspect.peerId,
                "\(suspect.hasLongStream ? "it" : "its change") \(suspect.reason), and the held-out loss is \(rounded(with)) with it, \(rounded(without)) without it"
            )
        }
        return worst
    }

    // MARK: Tracing

    private func traceRound(_ session: Session, aggregation: Date, measurement: Date) {
        guard let trace = SessionTrace(sessionId: session.id, traceparent: session.traceparent) else { return }
        let end = time.date
        let context = trace.parent(.round(session.round, generation: session.generation)).context
        SessionTrace.record("aggregate", in: context, from: aggregation, to: measurement, [:])
        SessionTrace.record("measure", in: context, from: measurement, to: end, [:])
        trace.record(
            "round", as: .round(session.round, generation: session.generation), from: session.roundStartedAt ?? aggregation, to: end,
            [
                "cohort.session": .string(session.id), "cohort.round": .int64(Int64(session.round)),
                "cohort.peers": .int64(Int64(session.peers.count { $0.answer?.round == session.round })),
            ])
    }

    private func traceEnd(_ session: Session) {
        SessionTrace(sessionId: session.id, traceparent: session.traceparent)?.record(
            "session", as: .session, from: session.createdAt, to: session.endedAt ?? time.date,
            [
                "cohort.session": .string(session.id), "cohort.status": .string(session.status.rawValue),
                "cohort.strategy": .string(session.settings.strategy), "cohort.rounds": .int64(Int64(session.settings.rounds)),
                "cohort.rows": .int64(Int64(session.dataset?.trainingRows ?? 0)),
            ], error: session.status == .failed ? session.error ?? "failed" : nil)
    }

    // MARK: Measuring

    /// Measures what a peer's answer reports: its own model (`independent`), or the final model on the peer's slice.
    func measured(_ event: DoneEvent, parameters: [Float]?, of place: SessionPeer, in machine: SessionMachine) async -> Counts? {
        let session = machine.session
        if machine.hasOwnModels, let parameters { return await measure(parameters, of: session, isFinal: true) }
        guard machine.isEvaluation, let slice = place.validationRows else { return nil }
        do {
            guard let weights = try await updates.parameters(of: session) else { return nil }
            return await measure(weights, of: session, isFinal: true, slice: slice)
        } catch {
            logger.warning("the weights could not be read to be measured by the server itself: \(error)")
            return nil
        }
    }

    /// Measures a model; nil after a failure, which is logged: the peers' measurement is used.
    private func measure(_ parameters: [Float], of session: Session, isFinal: Bool, slice: RowRange? = nil) async -> Counts? {
        do {
            return try await evaluator.measure(parameters, of: session, isFinal: isFinal, slice: slice)
        } catch {
            logger.warning("the model could not be measured by the server itself: \(error)")
            return nil
        }
    }

    /// Evaluates the final model in detail; nil after a failure, which is logged: the session has its metrics all the same.
    private func evaluation(of weights: ObjectReference, _ session: Session) async -> Evaluation? {
        do {
            guard let parameters = try await updates.parameters(of: session, weights: weights) else { return nil }
            return try await evaluator.evaluate(parameters, of: session)
        } catch {
            logger.warning("the model could not be measured in detail: \(error)")
            return nil
        }
    }

    func act(on effect: SessionActions.Effect, _ machine: inout SessionMachine) async throws -> SessionActions {
        switch effect {
        case .claim(let count): return try await claim(count, &machine)
        case .free(let peerId):
            try await documents.free(peerId: peerId, sessionId: id)
            return SessionActions()
        }
    }

    // MARK: Commands

    /// Sends commands. A peer that a command cannot reach is lost; the session goes on.
    func send(_ commands: [SessionActions.Command], of machine: inout SessionMachine, into actions: inout SessionActions) async throws {
        guard !commands.isEmpty else { return }
        var builder: TrainCommandBuilder?
        let session = machine.session
        var isAnyLost = false
        for command in commands {
            let message: Command
            switch command {
            case .enable(_, let prepares):
                if prepares, builder == nil { builder = try await commandBuilder(session) }
                message = .enable(
                    EnableCommand(
                        queue: session.eventQueue.rawValue, sessionId: id, generation: session.generation,
                        prepare: prepares ? builder?.dataset : nil))
            case .train(let peerId):
                guard let peer = machine.place(of: peerId), peer.state == .training else { continue }
                if builder == nil { builder = try await commandBuilder(session) }
                guard let builder else { continue }
                // Before its first answer, a peer may not have the schema.
                var train = try await builder.command(
                    for: peer, timeLimit: machine.timeLimit(at: clock.now()), tellsSchema: peer.trainedSamples == 0)
                train.progressWithin = machine.progressWithin
                message = .train(train)
            case .refused(_, let round, let attempt, let reason):
                message = .refused(
                    RefusedCommand(sessionId: id, generation: session.generation, round: round, attempt: attempt, reason: reason))
            case .stop(_, let reason):
                message = .stop(StopCommand(sessionId: id, reason: reason))
            }
            do {
                try await coordinator.transport.send(message, to: command.peerId)
            } catch let error as CohortError where error.code == .notFound || error.code == .conflict {
                isAnyLost = true
                actions += machine.apply(.peerLost(peerId: command.peerId, reason: "cannot be reached: \(error.message)"), now: clock.now())
            }
        }
        if isAnyLost { machine.advance(&actions, now: clock.now()) }
    }

    /// The schema travels as an object, by its hash, beside the message; read once a run.
    private func commandBuilder(_ session: Session) async throws -> TrainCommandBuilder {
        guard let dataset = session.dataset, let model = session.model else {
            throw CohortError(.internal, "session \(session.id) trains without a data set")
        }
        if schema == nil { schema = try await SchemaObject(of: session, in: coordinator.objects) }
        guard let schema else { throw CohortError(.internal, "session \(session.id) trains without a schema") }
        var weights: Data?
        if let reference = session.weights, let layout = session.layout { weights = try await updates.smallFile(of: reference, layout) }
        return try await TrainCommandBuilder(
            session: session, recipe: try StrategyCatalogue.named(session.settings.strategy).recipe(session.settings), dataset: dataset,
            model: model, schema: schema, weights: weights, objects: coordinator.objects,
            expiry: time.date.addingTimeInterval(configuration.linkSeconds))
    }

    // MARK: Peers

    /// Claims peers for the session: first those that return, then the owner's, then the fastest.
    private func claim(_ count: Int, _ machine: inout SessionMachine) async throws -> SessionActions {
        let session = machine.session
        let share = PoolShare(configuration.poolShare, documents: documents)
        var lent = try await share.left(ownerId: session.ownerId, pool: session.settings.pool ?? .mine)
        let candidates = try await documents.availablePeers().filter { peer in
            let place = machine.place(of: peer.id)
            guard
                peer.canTrain(
                    machine.session.settings, ownerId: machine.session.ownerId, isModule: machine.session.model?.module != nil)
            else { return false }
            return place?.isAlive != true && place?.state != .failed
        }.sorted { a, b in
            func rank(_ peer: Peer) -> Int {
                machine.place(of: peer.id) != nil ? 0 : peer.ownerId == machine.session.ownerId ? 1 : 2
            }
            return (rank(a), b.capabilities.samplesPerSecond, a.id) < (rank(b), a.capabilities.samplesPerSecond, b.id)
        }
        var actions = SessionActions()
        var left = count
        for peer in candidates where left > 0 {
            let isLent = peer.ownerId != session.ownerId
            if isLent, lent <= 0 { continue }
            guard try await documents.claim(peerId: peer.id, sessionId: id) else { continue }
            left -= 1
            if isLent { lent -= 1 }
            actions += machine.apply(.joined(peer), now: clock.now())
        }
        machine.advance(&actions, now: clock.now())
        return actions
    }

    // MARK: The end

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
        try await coordinator.transport.close(session.eventQueue)
        for prefix in [session.updatePrefix, "checkpoints/\(id)/"] { try await coordinator.objects.closeLinks(prefix: prefix) }
        // Other sessions may be trained on the same data set.
        try await coordinator.objects.closeLinks(scope: id)
        if session.modelObject == nil, let weights = session.best?.weights ?? session.weights {
            do {
                let metrics = session.best?.validation ?? session.checkpoints.last?.validation ?? Metrics(loss: nil, samples: 0)
                session.modelObject = try await updates.conclude(
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

    // MARK: Leftovers

    /// Removes updates, checkpoints that the document does not name, and an upload that never became a data set.
    private func removeWorkings(_ session: Session) async throws {
        let kept = Set((session.checkpoints.map(\.weights) + [session.weights, session.best?.weights].compactMap { $0 }).map(\.key))
        let checkpoints = try await coordinator.objects.list(prefix: "checkpoints/\(id)/").filter { !kept.contains($0) }
        var keys = checkpoints
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
