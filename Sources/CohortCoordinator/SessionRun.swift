import CohortCore
import CohortStrategies
import CohortTraining
import FoundationEssentials
import Logging

/// One session, run by one task: takes what is in the mailbox, lets the machine decide, stores the document, carries the decisions out, and
/// only then acknowledges what it was told.
final class SessionRun {
    private let id: String
    private let coordinator: Coordinator
    private let mailbox: Mailbox
    private var logger: Logger
    private var leaseRenewedAt = Date.distantPast
    private var storedAt = Date.distantPast
    /// What peers are known as; events come from the documents.
    private var peersSeenAt = Date.distantPast

    private var documents: any Documents { coordinator.documents }
    private var configuration: CoordinatorConfiguration { coordinator.configuration }

    private struct LeaseLost: Error {}

    init(id: String, of coordinator: Coordinator, mailbox: Mailbox) {
        self.id = id
        self.coordinator = coordinator
        self.mailbox = mailbox
        logger = coordinator.logger
        logger[metadataKey: "session"] = "\(id)"
    }

    func run() async {
        do {
            guard let session = try await takeLease(renewing: nil), !session.status.isFinal else { return }
            try await run(session)
        } catch is CancellationError {
            logger.info("left to be taken up again")
        } catch is LeaseLost {
            logger.notice("another coordinator has taken the session over")
        } catch {
            logger.error("the session is left for now: \(error)")
        }
    }

    private func takeLease(renewing generation: Int?) async throws -> Session? {
        let now = Date()
        let session = try await documents.lease(
            sessionId: id, owner: configuration.owner, renewing: generation, now: now,
            expiresAt: now.addingTimeInterval(configuration.leaseSeconds))
        if session != nil { leaseRenewedAt = now }
        return session
    }

    private func run(_ session: Session) async throws {
        let strategy = try StrategyCatalogue.named(session.settings.strategy)
        var machine = SessionMachine(session, strategy: strategy, rules: configuration.rules)
        if session.cancelRequested { return try await carryOut(machine.handle(.cancelled, now: Date()), &machine, []) }
        if session.status == .pending {
            let prepared: SessionMachine.Event
            do {
                let (dataset, model) = try await DatasetPreparation(session: session, objects: coordinator.objects).run()
                prepared = .prepared(dataset, model)
            } catch let error as CohortError {
                prepared = .failed(error.message)
            }
            // Cancelled, or the lease renewed, while the data was looked through.
            try await renewLease(&machine, force: true)
            try await coordinator.broker.declare(session.eventQueue)
            let event = machine.session.cancelRequested ? SessionMachine.Event.cancelled : prepared
            try await listen(&machine, first: event)
        } else {
            try await coordinator.broker.declare(session.eventQueue)
            try await listen(&machine, first: .resumed)
        }
    }

    // MARK: The loop

    private func listen(_ machine: inout SessionMachine, first: SessionMachine.Event) async throws {
        let mailbox = mailbox
        let stream = try await coordinator.broker.consume(machine.session.eventQueue)
        let pump = Task {
            do {
                for try await delivery in stream { mailbox.put(.delivery(delivery)) }
            } catch {}
            mailbox.put(.queueEnded)
        }
        let tick = configuration.tickSeconds
        let clock = Task {
            while !Task.isCancelled {
                try await Task.sleep(for: .seconds(tick))
                mailbox.put(.tick)
            }
        }
        defer {
            pump.cancel()
            clock.cancel()
            mailbox.close()
        }
        try await carryOut(machine.handle(first, now: Date()), &machine, [])
        mailbox.put(.look)
        while !machine.session.status.isFinal {
            let items = await mailbox.take()
            try Task.checkCancellation()
            guard !items.isEmpty else { return }
            try await handle(items, &machine)
        }
    }

    private func handle(_ items: [Mailbox.Item], _ machine: inout SessionMachine) async throws {
        var actions: [SessionMachine.Action] = []
        var taken: [Delivery] = []
        for item in items {
            switch item {
            case .delivery(let delivery):
                if let more = try await hear(delivery, &machine) {
                    actions += more
                    taken.append(delivery)
                }
            case .look:
                try await renewLease(&machine, force: true)
                actions += try await look(&machine)
            case .tick:
                try await renewLease(&machine, force: false)
                if Date().timeIntervalSince(peersSeenAt) > 2 { actions += try await look(&machine) }
                actions += machine.handle(.tick, now: Date())
            case .queueEnded:
                throw CohortError(.unavailable, "the event queue ended")
            }
        }
        try await carryOut(actions, &machine, taken)
    }

    /// - Returns: nil when the delivery is dealt with already (rejected).
    private func hear(_ delivery: Delivery, _ machine: inout SessionMachine) async throws -> [SessionMachine.Action]? {
        let event: PeerEvent
        do {
            event = try CohortJSON.decode(PeerEvent.self, from: delivery.body)
        } catch let unknown as UnknownMessageType {
            logger.warning("\(unknown)")
            return []
        } catch let error as CohortError {
            logger.warning("a malformed event is rejected: \(error)")
            try await delivery.reject(error)
            return nil
        }
        guard event.sessionId == id, machine.index(of: event.peerId) != nil else {
            try await delivery.reject(CohortError(.conflict, "this is not an event of a peer of session \(id)"))
            return nil
        }
        let now = Date()
        switch event {
        case .enabled(let event):
            return machine.handle(.enabled(event), now: now)
        case .heartbeat(let event):
            guard machine.accepts(generation: event.generation, round: event.round, peerId: event.peerId) else { break }
            return machine.handle(.heartbeat(event), now: now)
        case .error(let event):
            guard machine.accepts(generation: event.generation, round: event.round, peerId: event.peerId) else { break }
            return machine.handle(.error(event), now: now)
        case .done(let event):
            // A repeat of what is stored is fine, and changes nothing.
            if machine.isRepeat(event) { return [] }
            guard machine.accepts(generation: event.generation, round: event.round, peerId: event.peerId) else { break }
            if let why = machine.implausibility(of: event) { return machine.handle(.refused(event, why: why), now: now) }
            do {
                let norm = try await UpdateReader(coordinator.objects).inspect(event, of: machine.session)
                return machine.handle(.done(event, norm: norm), now: Date())
            } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
                return machine.handle(.refused(event, why: error.message), now: Date())
            }
        }
        try await delivery.reject(
            CohortError(
                .conflict,
                "this answers an older round or generation than round \(machine.session.round), generation \(machine.session.generation)"))
        return nil
    }

    /// What the documents say of the session's peers.
    private func look(_ machine: inout SessionMachine) async throws -> [SessionMachine.Action] {
        if machine.session.cancelRequested { return machine.handle(.cancelled, now: Date()) }
        peersSeenAt = Date()
        var actions: [SessionMachine.Action] = []
        let known = Dictionary(try await documents.peers().map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        for place in machine.session.peers where place.isAlive {
            guard let peer = known[place.id] else {
                actions += machine.handle(.peerLost(peerId: place.id, why: "it was removed"), now: Date())
                continue
            }
            if peer.status == .offline || peer.sessionId != id {
                actions += machine.handle(
                    .peerLost(
                        peerId: place.id,
                        why: peer.status == .offline ? "silent too long, or gone" : "it is no longer locked to this session"), now: Date())
            } else if peer.registration != place.registration {
                actions += machine.handle(.peerRegistered(peer), now: Date())
            }
        }
        // Somebody may be there now whom it waits for.
        return actions + machine.handle(.tick, now: Date())
    }

    // MARK: Storing and acting

    private func carryOut(_ actions: [SessionMachine.Action], _ machine: inout SessionMachine, _ deliveries: [Delivery]) async throws {
        var actions = actions
        var deliveries = deliveries
        var waiting: [SessionMachine.Action] = []
        while true {
            try await store(&machine)
            let points = actions.flatMap { action -> [MetricPoint] in if case .record(let points) = action { points } else { [] } }
            if !points.isEmpty { try await documents.append(points) }
            for delivery in deliveries { try await delivery.acknowledge() }
            deliveries = []
            var more: [SessionMachine.Action] = []
            for action in actions where !action.canWait { more += try await act(on: action, &machine) }
            // Nobody waits for these; the next round goes out first.
            waiting += actions.filter(\.canWait)
            guard more.isEmpty, !machine.mustStore else {
                actions = more
                continue
            }
            for action in waiting { _ = try await act(on: action, &machine) }
            return
        }
    }

    private func store(_ machine: inout SessionMachine) async throws {
        let due = machine.mustStore || (machine.isChanged && Date().timeIntervalSince(storedAt) > 1)
        guard due else { return }
        var session = machine.session
        for _ in 0..<5 {
            do {
                machine.stored(try await documents.update(session))
                storedAt = Date()
                return
            } catch let error as CohortError where error.code == .conflict {
                // Changed from outside: only a wish to cancel may be, or the lease is another's.
                guard let current = try await documents.session(id: id), current.generation == session.generation else { throw LeaseLost() }
                session.revision = current.revision
                session.cancelRequested = current.cancelRequested
                session.lease = current.lease
                if current.cancelRequested { mailbox.put(.look) }
            }
        }
        throw CohortError(.conflict, "the session's document is changed by others all the time")
    }

    private func renewLease(_ machine: inout SessionMachine, force: Bool) async throws {
        guard force || Date().timeIntervalSince(leaseRenewedAt) > configuration.leaseSeconds / 3 else { return }
        guard let stored = try await takeLease(renewing: machine.session.generation) else { throw LeaseLost() }
        machine.take(over: stored)
    }

    private func act(on action: SessionMachine.Action, _ machine: inout SessionMachine) async throws -> [SessionMachine.Action] {
        let session = machine.session
        switch action {
        case .enable(let peerId):
            let queue = QueueName.command(peerId: peerId)
            try await coordinator.broker.declare(queue)
            try await send(
                .enable(EnableCommand(queue: session.eventQueue.rawValue, sessionId: id, generation: session.generation)), to: peerId)
        case .train(let peerId):
            guard let peer = session.peers.first(where: { $0.id == peerId && $0.state == .training }) else { return [] }
            let command = try await TrainCommandBuilder(session: session, objects: coordinator.objects, configuration: configuration)
                .command(
                    for: peer, timeLimit: machine.timeLimit)
            try await send(.train(command), to: peerId)
        case .stop(let peerIds, let reason):
            for peerId in peerIds { try await send(.stop(StopCommand(sessionId: id, reason: reason)), to: peerId) }
        case .aggregate(let outcome):
            let weights = try await UpdateReader(coordinator.objects).aggregate(outcome, of: session)
            return machine.handle(.aggregated(weights), now: Date())
        case .discard(let keys):
            await remove(keys)
        case .conclude(let weights, let metrics):
            let object = try await UpdateReader(coordinator.objects).conclude(session, weights: weights, metrics: metrics)
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
        case .record:
            break
        case .tell(let notice):
            logger.info("\(notice.message)")
            await coordinator.feed.publish(notice)
        case .end:
            try await documents.freePeers(ofSession: id)
            try await coordinator.broker.delete(session.eventQueue)
            await removeUpdates()
            await removeUpload(session)
        }
        return []
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

    // MARK: Leftovers. What cannot be removed now is only logged: it harms nobody.

    private func removeUpdates() async {
        do {
            await remove(try await coordinator.objects.list(prefix: "updates/\(id)/"))
        } catch {
            logger.warning("updates are left over: \(error)")
        }
    }

    private func remove(_ keys: [String]) async {
        for key in keys {
            do {
                try await coordinator.objects.delete(key)
            } catch {
                logger.warning("\(key) is left over: \(error)")
            }
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

extension SessionMachine.Action {
    /// Tidying up: after everything that somebody waits for.
    fileprivate var canWait: Bool {
        if case .discard = self { true } else { false }
    }
}
