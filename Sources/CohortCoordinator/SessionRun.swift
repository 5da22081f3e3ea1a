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
    let mailbox: Mailbox
    var logger: Logger
    let updates: UpdateReader
    let evaluator: Evaluator
    var schema: SchemaObject?
    /// Objects that nobody needs any more, to be removed together.
    var discarded: [String] = []
    var clock: RunClock
    /// On the monotonic clock:
    /// When mere progress is stored next: for those who look at the document.
    private var progressDueAt = -Double.infinity
    /// When the peers' documents were looked at; changes are reported as well.
    private var peersSeenAt = -Double.infinity

    var documents: any Documents { coordinator.documents }
    var configuration: CoordinatorConfiguration { coordinator.configuration }
    var time: any TimeSource { coordinator.time }

    struct LeaseLost: Error {}

    init(id: String, of coordinator: Coordinator, mailbox: Mailbox) {
        self.id = id
        self.coordinator = coordinator
        self.mailbox = mailbox
        updates = UpdateReader(coordinator.objects, on: coordinator.executor)
        evaluator = Evaluator(coordinator.objects, on: coordinator.executor)
        clock = RunClock(coordinator.time)
        logger = coordinator.logger
        logger[metadataKey: "session"] = "\(id)"
    }

    // MARK: Its life

    /// Runs the session to its end. A fault of a store or of the broker is waited out, with the lease held and the generation unchanged, so
    /// that peers work on meanwhile; it is counted and shown, and fails the session when it does not go away.
    func run() async {
        var faults = Faults(limit: configuration.maxFaults)
        var held: Int?
        while true {
            do {
                if held == nil, try await isJustStarting() { return }
                guard let session = try await takeLease(renewing: held) else {
                    if held != nil { throw LeaseLost() }
                    return
                }
                let isRecovery = held != nil
                held = session.generation
                try await run(session, isRecovery: isRecovery, fatal: faults.fatal)
                return
            } catch is CancellationError {
                return logger.info("left to be taken up again")
            } catch is LeaseLost {
                return logger.notice("another coordinator has taken the session over")
            } catch let error as CohortError where error.code == .notFound && held == nil {
                return logger.debug("there is no such session any more")
            } catch {
                faults.add("\(error)")
                logger.error("fault \(faults.count) in a row: \(error)")
                await show(faults)
                do { try await time.sleep(seconds: faults.pause) } catch { return logger.info("left to be taken up again") }
            }
        }
    }

    /// Whether its peers are being claimed this moment: the session is not there for a coordinator yet.
    private func isJustStarting() async throws -> Bool {
        guard let session = try await documents.session(id: id), session.isStarting == true else { return false }
        return time.date.timeIntervalSince(session.createdAt) <= configuration.startSeconds
    }

    private func show(_ faults: Faults) async {
        let words = "the server: \(faults.last) (try \(faults.count + 1) of \(faults.limit))"
        var notice = SessionNotice(sessionId: id, kind: .status, time: time.date, message: "Waiting for \(words)")
        notice.status = .running
        await coordinator.feed.publish(notice)
        // The document says it too, where it can be stored: the store may be the very fault that is shown, and that was logged.
        guard var session = try? await documents.session(id: id), !session.status.isFinal else { return }
        session.waitingFor = words
        _ = try? await documents.update(session)
    }

    /// - Parameter generation: that is held already; nil: the lease is taken.
    /// - Returns: the session as stored; nil when another has the lease.
    private func takeLease(renewing generation: Int?) async throws -> Session? {
        guard let generation else {
            let now = time.date
            return try await documents.takeLease(
                sessionId: id, owner: configuration.owner, now: now, expiresAt: now.addingTimeInterval(configuration.leaseSeconds))
        }
        guard try await renewLease(generation) != nil else { return nil }
        return try await documents.session(id: id)
    }

    private func renewLease(_ generation: Int) async throws -> HeldLease? {
        try await documents.renewLease(
            sessionId: id, owner: configuration.owner, generation: generation,
            expiresAt: time.date.addingTimeInterval(configuration.leaseSeconds))
    }

    /// Renews the lease for as long as it runs, beside whatever else is done.
    /// - Returns: when a person wants the session cancelled.
    private static func keepLease(
        _ id: String, _ generation: Int, every seconds: Double, _ documents: any Documents, _ configuration: CoordinatorConfiguration,
        _ time: any TimeSource
    ) async throws {
        while true {
            try await time.sleep(seconds: seconds)
            guard
                let held = try await documents.renewLease(
                    sessionId: id, owner: configuration.owner, generation: generation,
                    expiresAt: time.date.addingTimeInterval(configuration.leaseSeconds))
            else { throw LeaseLost() }
            if held.cancelRequested { return }
        }
    }

    /// - Parameter fatal: why the session is to fail now; nil: it goes on.
    private func run(_ session: Session, isRecovery: Bool, fatal: String?) async throws {
        if session.status.isFinal { return session.isEnding == true ? try await finish(session, givesUp: fatal != nil) : () }
        let strategy = try StrategyCatalogue.named(session.settings.strategy)
        var machine = SessionMachine(session, strategy: strategy, rules: configuration.rules)
        if session.status == .running {
            let answers = try await documents.answers(sessionId: id)
            machine.restore(answers)
            await updates.restore(answers, model: session.model)
        }
        if let fatal {
            try await carryOut(machine.handle(.failed(fatal), now: clock.now()), &machine, [])
        } else if session.isStarting == true {
            let why = "the server stopped while the session was being started: start it again"
            try await carryOut(machine.handle(.failed(why), now: clock.now()), &machine, [])
        } else if session.cancelRequested {
            try await carryOut(machine.handle(.cancelled, now: clock.now()), &machine, [])
        } else if session.status == .pending {
            let prepared = try await prepare(session)
            // Cancelled, or the lease renewed, while the data was inspected.
            try await lookAtLease(&machine)
            try await listen(&machine, first: machine.session.cancelRequested ? .cancelled : prepared)
        } else {
            try await listen(&machine, first: isRecovery ? .recovered : .resumed)
        }
        if machine.session.status.isFinal { try await finish(machine.session, givesUp: fatal != nil) }
    }

    /// Inspects the data set, with the lease kept; ends early when the session is cancelled meanwhile.
    private func prepare(_ session: Session) async throws -> SessionMachine.Event {
        let preparation = DatasetPreparation(session: session, objects: coordinator.objects)
        return try await withThrowingTaskGroup(of: SessionMachine.Event?.self) { tasks in
            tasks.addTask {
                do {
                    let (dataset, model) = try await preparation.run()
                    return .prepared(dataset, model)
                } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
                    return .failed(error.message)
                }
            }
            tasks.addTask { [id, documents, configuration, time] in
                let seconds = min(configuration.leaseSeconds / 3, 1)
                try await Self.keepLease(id, session.generation, every: seconds, documents, configuration, time)
                return nil
            }
            defer { tasks.cancelAll() }
            guard let first = try await tasks.next() else { throw CancellationError() }
            return first ?? .cancelled
        }
    }

    // MARK: The loop

    private func listen(_ machine: inout SessionMachine, first: SessionMachine.Event) async throws {
        // What an earlier try left: it is delivered again.
        mailbox.drop()
        try await coordinator.broker.declare(machine.session.eventQueue)
        let stream = try await coordinator.broker.consume(machine.session.eventQueue)
        try await withThrowingTaskGroup(of: Void.self) { [mailbox, time, tick = configuration.tickSeconds] tasks in
            tasks.addTask {
                do {
                    for try await delivery in stream { mailbox.put(.delivery(delivery)) }
                    mailbox.put(.queueEnded("the event queue ended"))
                } catch {
                    mailbox.put(.queueEnded("\(error)"))
                }
            }
            tasks.addTask {
                while true {
                    try await time.sleep(seconds: tick)
                    mailbox.put(.tick)
                }
            }
            tasks.addTask { [id, documents, configuration, generation = machine.session.generation] in
                do {
                    let seconds = configuration.leaseSeconds / 3
                    try await Self.keepLease(id, generation, every: seconds, documents, configuration, time)
                    mailbox.put(.look)
                } catch is LeaseLost {
                    mailbox.put(.leaseLost)
                } catch let error as CohortError {
                    mailbox.put(.queueEnded(error.message))
                }
            }
            defer { tasks.cancelAll() }
            try await carryOut(machine.handle(first, now: clock.now()), &machine, [])
            mailbox.put(.look)
            while !machine.session.status.isFinal {
                let items = await mailbox.take()
                try Task.checkCancellation()
                guard !items.isEmpty else { throw CancellationError() }
                try await handle(items, &machine)
            }
        }
    }

    private func handle(_ items: [Mailbox.Item], _ machine: inout SessionMachine) async throws {
        var step = Step()
        var taken: [Delivery] = []
        for item in items {
            switch item {
            case .delivery(let delivery):
                if let more = try await hear(delivery, &machine) {
                    step += more
                    taken.append(delivery)
                }
            case .look:
                try await lookAtLease(&machine)
                step += try await look(&machine)
            case .tick:
                if time.monotonic - peersSeenAt > 2 { step += try await look(&machine) }
            case .leaseLost:
                throw LeaseLost()
            case .queueEnded(let why):
                throw CohortError(.unavailable, why)
            }
        }
        machine.advance(now: clock.now(), &step)
        try await carryOut(step, &machine, taken)
    }

    /// - Returns: nil when the delivery is dealt with already (rejected).
    private func hear(_ delivery: Delivery, _ machine: inout SessionMachine) async throws -> Step? {
        let event: PeerEvent
        do {
            event = try CohortJSON.decode(PeerEvent.self, from: delivery.body)
        } catch let unknown as UnknownMessageType {
            logger.debug("\(unknown)")
            return Step()
        } catch let error as CohortError {
            logger.warning("a malformed event is rejected: \(error)")
            try await delivery.reject(error)
            return nil
        }
        guard event.sessionId == id, let place = machine.place(of: event.peerId) else {
            try await delivery.reject(CohortError(.conflict, "this is not an event of a peer of session \(id)"))
            return nil
        }
        switch event {
        case .enabled(let event): return machine.apply(.enabled(event), now: clock.now())
        case .ready(let event): return machine.apply(.ready(event), now: clock.now())
        case .progress(let event): return machine.apply(.progress(event), now: clock.now())
        case .error(let event): return machine.apply(.error(event), now: clock.now())
        case .heartbeat(let event):
            guard machine.accepts(generation: event.generation, round: event.round, peerId: event.peerId) else { break }
            return machine.apply(.heartbeat(event), now: clock.now())
        case .done(let event):
            // A repeat of what is stored is fine, and changes nothing.
            if machine.isRepeat(event) { return Step() }
            guard machine.awaits(event) else { break }
            if let why = machine.implausibility(of: event) { return machine.apply(.refused(event, why: why), now: clock.now()) }
            do {
                let inspected = try await updates.inspect(
                    event, attempt: place.attempt ?? 0, of: machine.session, collects: !machine.isSynchronous)
                let measured = await measured(event, inspected?.parameters, place, machine)
                return machine.apply(.done(event, norm: inspected?.norm, measured: measured), now: clock.now())
            } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
                return machine.apply(.refused(event, why: error.message), now: clock.now())
            }
        }
        try await delivery.reject(
            CohortError(
                .conflict,
                "this answers an older round, attempt or generation than round \(machine.session.round), attempt \(place.attempt ?? 0), generation \(machine.session.generation)"
            ))
        return nil
    }

    /// What the documents say of the session's peers.
    private func look(_ machine: inout SessionMachine) async throws -> Step {
        if machine.session.cancelRequested { return machine.apply(.cancelled, now: clock.now()) }
        peersSeenAt = time.monotonic
        var step = Step()
        let known = Dictionary(try await documents.peers(ofSession: id).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        for place in machine.session.peers where place.isAlive {
            guard let peer = known[place.id] else {
                step += machine.apply(
                    .peerLost(peerId: place.id, why: "it is no longer locked to this session"), now: clock.now())
                continue
            }
            if peer.status == .offline {
                step += machine.apply(.peerLost(peerId: place.id, why: "silent too long, or gone"), now: clock.now())
            } else if peer.registration != place.registration {
                step += machine.apply(.peerRegistered(peer), now: clock.now())
            }
        }
        return step
    }

    // MARK: Storing and acting

    /// Makes the objects, stores what came of it, then carries out the rest, and what comes of that in turn. Objects are made before the
    /// document that names them, so a round that closes is stored once, together with the next one's beginning.
    func carryOut(_ first: Step, _ machine: inout SessionMachine, _ deliveries: [Delivery]) async throws {
        var step = first
        var deliveries = deliveries
        while true {
            while !step.objects.isEmpty {
                let task = step.objects.removeFirst()
                step += try await make(task, &machine)
            }
            try await store(&machine, recording: step.records)
            for delivery in deliveries { try await delivery.acknowledge() }
            deliveries = []
            var next = Step()
            try await send(step.commands, &machine, &next)
            for effect in step.effects { next += try await act(on: effect, &machine) }
            for notice in step.notices {
                logger.info("\(notice.message)")
                await coordinator.feed.publish(notice)
            }
            // Nobody waits for these; the next round goes out first.
            let discarded = step.discarded + next.discarded
            next.discarded = []
            guard next.isEmpty, !machine.mustStore else {
                step = next
                step.discarded = discarded
                continue
            }
            return await discard(discarded, machine.session)
        }
    }

    /// The document when it must be, or when progress is due; what is recorded always.
    private func store(_ machine: inout SessionMachine, recording record: SessionRecord) async throws {
        var record = record
        // Those of a round that is closed by now are in what came of it.
        record.answers.removeAll { $0.answer.round < machine.session.round }
        let begun = time.monotonic
        guard machine.mustStore || (machine.isChanged && begun >= progressDueAt) else {
            guard !record.isEmpty else { return }
            do {
                return try await documents.record(record, sessionId: id, generation: machine.session.generation)
            } catch let error as CohortError where error.code == .conflict {
                throw LeaseLost()
            }
        }
        do {
            machine.stored(try await documents.update(machine.session, recording: record))
        } catch let error as CohortError where error.code == .conflict {
            throw LeaseLost()
        }
        // Storing progress takes a twentieth of the time at most, however large the document is.
        progressDueAt = time.monotonic + max(0.2, (time.monotonic - begun) * 20)
        if machine.session.cancelRequested { mailbox.put(.look) }
    }

    /// Whether it is still this coordinator's, and not to be cancelled.
    private func lookAtLease(_ machine: inout SessionMachine) async throws {
        guard let held = try await renewLease(machine.session.generation) else { throw LeaseLost() }
        machine.renewed(held)
    }
}

/// Faults of one run, in a row.
struct Faults {
    /// After so many of the same the session fails.
    let limit: Int
    private(set) var count = 0
    private(set) var last = ""

    init(limit: Int) { self.limit = limit }

    mutating func add(_ fault: String) {
        count = fault == last ? count + 1 : 1
        last = fault
    }

    /// Why the session is to fail; nil: try again.
    var fatal: String? { count >= limit ? "the server could not go on after \(count) tries: \(last)" : nil }

    /// Seconds until the next try.
    var pause: Double { min(0.5 * Double(1 << min(count, 5)), 15) }
}
