import CohortCore
import CohortSession
import CohortStrategies
import CohortTracing
import CohortTraining
import CohortWire
import FoundationEssentials
import Logging
import Tracing

/// Runs one session in one task: takes the mailbox's items, applies them to the machine, stores the document, acknowledges the events and executes the
/// actions.
final class SessionRun {
    let id: String
    let coordinator: Coordinator
    let mailbox: Mailbox
    let lease: SessionLease
    var logger: Logger
    let aggregator: Aggregator
    let evaluator: Evaluator
    let files: DataFileLoader
    /// The session's table, and what the peers know of it.
    var table: TableKnowledge?
    /// Answers that are neither recorded nor acknowledged yet: mostly their round closes at once, and they are part of its result.
    var waiting: (actions: SessionActions, events: [ReceivedEvent])?
    /// Weights that the next document names, on their way to the disk.
    var unstored: [AheadObject] = []
    /// Peers have been sent work that the stored document does not name yet. When storing it fails, a new generation begins, and that work is refused.
    private var isAhead = false
    /// Unused objects, to be removed together.
    var discarded: [String] = []
    var clock: RunClock
    /// When a change that is only progress is stored next, in monotonic seconds.
    var progressDueAt = -Double.infinity
    /// When the peers' documents were read last, in monotonic seconds; changes are reported as well.
    var peersSeenAt = -Double.infinity

    /// Seconds that an answer waits for the others.
    static let answerWait = 0.05

    /// The number of times that this run stored the document, and the newest round in it.
    private var stores = 0
    private var storedRound = 0

    var documents: any Documents { coordinator.documents }
    var configuration: CoordinatorConfiguration { coordinator.configuration }
    var time: any TimeSource { coordinator.time }

    init(id: String, of coordinator: Coordinator, mailbox: Mailbox) {
        self.id = id
        self.coordinator = coordinator
        self.mailbox = mailbox
        lease = SessionLease(
            sessionId: id, owner: coordinator.configuration.owner, seconds: coordinator.configuration.leaseSeconds,
            documents: coordinator.documents, time: coordinator.time)
        let executor = coordinator.executor()
        aggregator = Aggregator(coordinator.objects, on: executor)
        files = DataFileLoader(coordinator.objects, folder: coordinator.configuration.scratchFolder, on: executor)
        evaluator = Evaluator(coordinator.objects, on: executor)
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
            faults.begin(at: progress())
            do {
                if held == nil, try await isJustStarting() { return }
                guard let session = try await lease.session(renewing: held) else {
                    if held != nil { throw SessionLease.Lost() }
                    return
                }
                let isRecovery = held != nil
                held = session.generation
                try await run(session, isRecovery: isRecovery, fatal: faults.fatal)
                return
            } catch is CancellationError {
                return logger.info("left to be taken up again")
            } catch is SessionLease.Lost {
                await removeIfGone()
                return logger.notice("another coordinator has taken the session over")
            } catch let error as CohortError where error.code == .notFound && held == nil {
                return logger.debug("there is no such session any more")
            } catch {
                faults.add("\(error)", at: progress())
                logger.error("fault \(faults.count) in a row: \(error)")
                await show(faults, isHeld: held != nil)
                if isAhead { held = nil }
                (isAhead, unstored) = (false, [])
                do { try await time.sleep(seconds: faults.pause) } catch { return logger.info("left to be taken up again") }
            }
        }
    }

    private func progress() -> Faults.Progress { Faults.Progress(round: storedRound, stores: stores, at: time.monotonic) }

    /// Removes objects of a session whose start was taken back: the start was not certain that it was stored.
    private func removeIfGone() async {
        do {
            guard try await documents.session(id: id) == nil else { return }
            let keys =
                try await coordinator.objects.list(prefix: "schemas/\(id).json")
                + coordinator.objects.list(prefix: Session.checkpointPrefix(of: id))
                + coordinator.objects.list(prefix: StoredTable.prefix(sessionId: id))
            if !keys.isEmpty { try await coordinator.objects.delete(keys) }
        } catch {
            logger.warning("objects of a session that is gone are left over: \(error)")
        }
    }

    /// Returns whether the session's peers are being claimed: it has no coordinator yet.
    private func isJustStarting() async throws -> Bool {
        guard let session = try await documents.session(id: id), session.isStarting == true else { return false }
        return time.date.timeIntervalSince(session.createdAt) <= configuration.startSeconds
    }

    /// - Parameter isHeld: a session without this coordinator's lease is another's to change, or of its start.
    private func show(_ faults: Faults, isHeld: Bool) async {
        let words = "the server: \(faults.last) (try \(faults.count + 1) of \(faults.limit))"
        var notice = SessionNotice(sessionId: id, kind: .status, time: time.date, message: "Waiting for \(words)")
        notice.status = .running
        await coordinator.feed.publish(notice)
        // The document says it too, where it can be stored: the store may be the very fault that is shown, and that was logged.
        guard isHeld, var session = try? await documents.session(id: id), !session.status.isFinal else { return }
        session.waitingFor = words
        _ = try? await documents.update(session)
    }

    /// - Parameter fatal: why the session is to fail now; nil: it goes on.
    private func run(_ session: Session, isRecovery: Bool, fatal: String?) async throws {
        if session.status.isFinal { return session.isEnding == true ? try await finish(session, givesUp: fatal != nil) : () }
        let strategy = try configuration.strategies.named(session.settings.strategy)
        var machine = SessionMachine(session, strategy: strategy, rules: configuration.rules)
        if session.status == .running {
            let answers = try await documents.answers(sessionId: id)
            machine.restore(answers)
            try await aggregator.restore(answers, of: session)
            if session.lastRound != nil { machine.restore(try await documents.rounds(sessionId: id).last) }
        }
        if let fatal {
            try await carryOut(machine.handle(.failed(fatal), now: clock.now()), of: &machine, settling: [])
        } else if session.isStarting == true {
            let why = "the server stopped while the session was being started: start it again"
            try await carryOut(machine.handle(.failed(why), now: clock.now()), of: &machine, settling: [])
        } else if session.cancelRequested {
            try await carryOut(machine.handle(.cancelled, now: clock.now()), of: &machine, settling: [])
        } else if session.status == .pending {
            let prepared = try await prepare(session)
            // Cancelled, or the lease renewed, while the data was inspected.
            try await renewLease(&machine)
            try await listen(&machine, first: machine.session.cancelRequested ? .cancelled : prepared)
        } else {
            try await listen(&machine, first: isRecovery ? .recovered : .resumed)
        }
        if machine.session.status.isFinal { try await finish(machine.session, givesUp: fatal != nil) }
    }

    /// Inspects the data set while the lease is renewed; ends early when the session is cancelled.
    private func prepare(_ session: Session) async throws -> SessionMachine.Event {
        let preparation = DatasetPreparation(
            session: session, objects: coordinator.objects, files: files, scratchFolder: configuration.scratchFolder,
            modelMemory: configuration.modelMemory)
        let (event, made) = try await withThrowingTaskGroup(of: (SessionMachine.Event, StoredTable?)?.self) { tasks in
            tasks.addTask { [time] in
                do {
                    let began = time.date
                    let (dataset, model, weights, table) = try await preparation.run()
                    if let context = SessionTrace(sessionId: session.id, traceparent: session.traceparent)?.parent(.session).context {
                        SessionTrace.record("look at the data", in: context, from: began, to: time.date, [:])
                    }
                    return (.prepared(dataset, model, from: weights), table)
                } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
                    return (.failed(error.message), nil)
                }
            }
            tasks.addTask { [lease] in
                try await lease.keep(generation: session.generation, every: min(lease.seconds / 3, 1))
                return nil
            }
            defer { tasks.cancelAll() }
            guard let first = try await tasks.next() else { throw CancellationError() }
            return first ?? (.cancelled, nil)
        }
        table = made.map(TableKnowledge.init)
        return event
    }

    // MARK: Storing and acting

    /// Makes the objects, stores the document, then executes the other actions, and those that follow in turn. Objects are made before the document
    /// that names them, so that a round that closes is stored once, together with the beginning of the next.
    func carryOut(_ first: SessionActions, of machine: inout SessionMachine, settling events: [ReceivedEvent]) async throws {
        var actions = first
        var events = events
        while true {
            let makesObjects = !actions.objects.isEmpty
            while !actions.objects.isEmpty {
                let task = actions.objects.removeFirst()
                actions += try await make(task, &machine)
            }
            var ahead: [SessionActions.Command] = []
            // A round is closed: the peers begin the next one while it is stored.
            if makesObjects, machine.mustStore {
                ahead = actions.commands.filter(\.isTrain)
                actions.commands.removeAll(where: \.isTrain)
            }
            var next = SessionActions()
            lose(try await store(&machine, recording: actions.records, sending: ahead), in: &machine, into: &next)
            for event in events { try await event.settle(.accepted) }
            events = []
            try await send(actions.commands, of: &machine, into: &next)
            for effect in actions.effects { next += try await act(on: effect, &machine) }
            await publish(actions.notices)
            // These are removed after the next round has been sent.
            let discarded = actions.discarded + next.discarded
            next.discarded = []
            guard next.isEmpty, !machine.mustStore else {
                actions = next
                actions.discarded = discarded
                continue
            }
            return await discard(discarded, machine.session)
        }
    }

    func publish(_ notices: [SessionNotice]) async {
        for notice in notices {
            logger.info("\(notice.message)")
            await coordinator.feed.publish(notice)
        }
    }

    /// Stores the document when it must be stored or when progress is due, and the records in any case.
    /// - Parameter ahead: commands that are sent meanwhile.
    /// - Returns: the peers that they did not reach.
    private func store(
        _ machine: inout SessionMachine, recording record: SessionRecord, sending ahead: [SessionActions.Command]
    ) async throws -> [Unreached] {
        var record = record
        // The answers of a closed round are part of its result.
        record.answers.removeAll { $0.answer.round < machine.session.round }
        let begun = time.monotonic
        guard machine.mustStore || (machine.isChanged && begun >= progressDueAt) else {
            guard !record.isEmpty else { return [] }
            do {
                try await documents.record(record, sessionId: id, generation: machine.session.generation)
                return []
            } catch let error as CohortError where error.code == .conflict {
                throw SessionLease.Lost()
            }
        }
        let unreached: Result<[Unreached], any Error>
        do {
            isAhead = !ahead.isEmpty
            let (session, objects, documents) = (machine.session, unstored, documents)
            async let stored = Self.store(session, recording: record, after: objects, in: documents)
            do { unreached = .success(try await deliver(ahead, of: machine)) } catch { unreached = .failure(error) }
            machine.stored(try await stored)
            isAhead = false
            unstored = []
            stores += 1
            storedRound = max(storedRound, machine.session.round)
        } catch let error as CohortError where error.code == .conflict {
            throw SessionLease.Lost()
        }
        // Storing progress takes at most a twentieth of the time, however large the document is.
        progressDueAt = time.monotonic + max(0.2, (time.monotonic - begun) * 20)
        if machine.session.cancelRequested { mailbox.put(.look) }
        return try unreached.get()
    }

    /// Objects are durable before the document that names them is.
    private static func store(
        _ session: Session, recording record: SessionRecord, after objects: [AheadObject], in documents: any Documents
    ) async throws -> Session {
        for object in objects { try await object.durable() }
        return try await documents.update(session, recording: record)
    }

    /// Renews the lease and learns whether the session is cancelled.
    /// - Throws: ``SessionLease/Lost`` when another coordinator has it.
    func renewLease(_ machine: inout SessionMachine) async throws {
        guard let held = try await lease.renew(generation: machine.session.generation) else { throw SessionLease.Lost() }
        machine.renewed(held)
    }
}
