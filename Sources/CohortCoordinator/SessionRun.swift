import CohortCore
import CohortStrategies
import CohortTraining
import FoundationEssentials
import Logging

/// One session, run by one task: takes what is in the mailbox, lets the machine decide, stores the document, carries the decisions out, and
/// only then acknowledges what it was told.
final class SessionRun {
    let id: String
    let coordinator: Coordinator
    private let mailbox: Mailbox
    var logger: Logger
    var updates: UpdateReader
    var schema: SchemaObject?
    /// Objects that nobody needs any more, to be removed together.
    var discarded: [String] = []
    private var leaseRenewedAt = Date.distantPast
    /// When mere progress is stored next: for those who look at the document.
    private var progressDueAt = ContinuousClock.now
    /// What peers are known as; events come from the documents.
    private var peersSeenAt = Date.distantPast

    var documents: any Documents { coordinator.documents }
    var configuration: CoordinatorConfiguration { coordinator.configuration }

    struct LeaseLost: Error {}

    init(id: String, of coordinator: Coordinator, mailbox: Mailbox) {
        self.id = id
        self.coordinator = coordinator
        self.mailbox = mailbox
        updates = UpdateReader(coordinator.objects)
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

    func takeLease(renewing generation: Int?) async throws -> Session? {
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
        if session.status == .running {
            let answers = try await documents.answers(sessionId: id)
            machine.restore(answers)
            try updates.restore(answers, model: session.model)
        }
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
        let stream = try await coordinator.broker.consume(machine.session.eventQueue)
        try await withThrowingTaskGroup(of: Void.self) { [mailbox, tick = configuration.tickSeconds] tasks in
            tasks.addTask {
                defer { mailbox.put(.queueEnded) }
                for try await delivery in stream { mailbox.put(.delivery(delivery)) }
            }
            tasks.addTask {
                while true {
                    try await Task.sleep(for: .seconds(tick))
                    mailbox.put(.tick)
                }
            }
            defer {
                tasks.cancelAll()
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
                let norm = try await updates.inspect(event, of: machine.session)
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

    /// Stores what the actions came of, then carries them out, and those that come of them in turn. Objects are made before the document
    /// that names them, so a round that closes is stored once, together with the next one's beginning.
    private func carryOut(_ actions: [SessionMachine.Action], _ machine: inout SessionMachine, _ deliveries: [Delivery]) async throws {
        var actions = actions
        var deliveries = deliveries
        var waiting: [SessionMachine.Action] = []
        while true {
            var due: [SessionMachine.Action] = []
            while !actions.isEmpty {
                let action = actions.removeFirst()
                if action.makesObject { actions += try await act(on: action, &machine) } else { due.append(action) }
            }
            try await store(&machine, recording: SessionRecord(of: due))
            for delivery in deliveries { try await delivery.acknowledge() }
            deliveries = []
            var commands: TrainCommandBuilder?
            for action in due where !action.canWait {
                if case .train(let peerId) = action {
                    if commands == nil { commands = try await commandBuilder(machine.session) }
                    if let commands { try await train(peerId, machine, commands) }
                } else {
                    actions += try await act(on: action, &machine)
                }
            }
            // Nobody waits for these; the next round goes out first.
            waiting += due.filter(\.canWait)
            guard actions.isEmpty, !machine.mustStore else { continue }
            for action in waiting { _ = try await act(on: action, &machine) }
            return
        }
    }

    /// The document when it must be, or when progress is due; what is recorded always.
    private func store(_ machine: inout SessionMachine, recording record: SessionRecord) async throws {
        var record = record
        // Those of a round that is closed by now are in what came of it.
        record.answers.removeAll { $0.answer.round < machine.session.round }
        let begun = ContinuousClock.now
        guard machine.mustStore || (machine.isChanged && begun >= progressDueAt) else {
            guard !record.isEmpty else { return }
            do {
                return try await documents.record(record, sessionId: id, generation: machine.session.generation)
            } catch let error as CohortError where error.code == .conflict {
                throw LeaseLost()
            }
        }
        var session = machine.session
        for _ in 0..<5 {
            do {
                machine.stored(try await documents.update(session, recording: record))
                // Storing progress takes a twentieth of the time at most, however large the document is.
                progressDueAt = .now + max(.milliseconds(200), (ContinuousClock.now - begun) * 20)
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
}

extension SessionRecord {
    fileprivate init(of actions: [SessionMachine.Action]) {
        self.init()
        for action in actions {
            switch action {
            case .record(let points): self.points += points
            case .summarize(let round): rounds.append(round)
            case .accept(let answer): answers.append(answer)
            default: break
            }
        }
    }
}

extension SessionMachine.Action {
    /// Writes an object that the document is to name.
    fileprivate var makesObject: Bool {
        switch self {
        case .aggregate, .conclude: true
        default: false
        }
    }

    /// Tidying up: after everything that somebody waits for.
    fileprivate var canWait: Bool {
        if case .discard = self { true } else { false }
    }
}
