import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Logging

/// Receives events and applies them to the machine.
extension SessionRun {
    func listen(_ machine: inout SessionMachine, first: SessionMachine.Event) async throws {
        // Events of a failed attempt are delivered again.
        mailbox.drop()
        waiting = nil
        try await coordinator.transport.open(machine.session.eventQueue)
        let stream = try await coordinator.transport.events(of: machine.session.eventQueue)
        try await withThrowingTaskGroup(of: Void.self) { [mailbox, time, tick = configuration.tickSeconds] tasks in
            tasks.addTask {
                do {
                    for try await event in stream { mailbox.put(.event(event)) }
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
            tasks.addTask { [lease, generation = machine.session.generation] in
                do {
                    try await lease.keep(generation: generation, every: lease.seconds / 3)
                    mailbox.put(.look)
                } catch is SessionLease.Lost {
                    mailbox.put(.leaseLost)
                } catch let error as CohortError {
                    mailbox.put(.queueEnded(error.message))
                }
            }
            defer { tasks.cancelAll() }
            try await carryOut(machine.handle(first, now: clock.now()), of: &machine, settling: [])
            mailbox.put(.look)
            while !machine.session.status.isFinal {
                let items = await mailbox.nextItems()
                try Task.checkCancellation()
                guard !items.isEmpty else { throw CancellationError() }
                try await handle(items, &machine)
            }
        }
    }

    private func handle(_ items: [Mailbox.Item], _ machine: inout SessionMachine) async throws {
        var actions = SessionActions()
        var taken: [ReceivedEvent] = []
        var isDue = false
        for item in items {
            switch item {
            case .event(let received):
                if let more = try await receive(received, &machine) {
                    actions += more
                    taken.append(received)
                }
            case .look:
                try await renewLease(&machine)
                actions += try await refreshPeers(&machine)
            case .tick:
                if time.monotonic - peersSeenAt > 2 { actions += try await refreshPeers(&machine) }
            case .due:
                isDue = true
            case .leaseLost:
                throw SessionLease.Lost()
            case .queueEnded(let why):
                throw CohortError(.unavailable, why)
            }
        }
        machine.advance(&actions, now: clock.now())
        if !isDue, actions.isOnlyAnswers, !machine.mustStore {
            await publish(actions.notices)
            actions.notices = []
            return wait(with: actions, taken)
        }
        if let waiting {
            // What came first goes first.
            (actions, taken) = (waiting.actions + actions, waiting.events + taken)
            self.waiting = nil
        }
        try await carryOut(actions, of: &machine, settling: taken)
    }

    private func wait(with actions: SessionActions, _ events: [ReceivedEvent]) {
        if let first = waiting {
            waiting = (first.actions + actions, first.events + events)
            return
        }
        waiting = (actions, events)
        mailbox.putDue(in: Self.answerWait, by: time)
    }

    /// - Returns: nil for a refused event.
    private func receive(_ received: ReceivedEvent, _ machine: inout SessionMachine) async throws -> SessionActions? {
        let event: PeerEvent
        do {
            event = try CohortJSON.decode(PeerEvent.self, from: received.body)
        } catch let unknown as UnknownMessageType {
            logger.debug("\(unknown)")
            return SessionActions()
        } catch let error as CohortError {
            logger.warning("a malformed event of peer \(received.sender.printable(max: 64)) is refused: \(error)")
            try await refuse(received, because: error, round: machine.session.round, attempt: 0, in: machine)
            return nil
        }
        let stale = event.work
        // Another coordinator may have taken over the session.
        if event.generation > machine.session.generation { try await renewLease(&machine) }
        guard event.peerId == received.sender else {
            let why = "peer_id is '\(event.peerId.printable(max: 64))', but peer \(received.sender.printable(max: 64)) sent it"
            logger.warning("an event is refused: \(why)")
            try await refuse(received, because: CohortError(.invalid, why), round: stale.round, attempt: stale.attempt, in: machine)
            return nil
        }
        guard event.sessionId == id, let place = machine.place(of: event.peerId) else {
            let error = CohortError(.conflict, "this is not an event of a peer of session \(id)")
            try await refuse(received, because: error, round: stale.round, attempt: stale.attempt, in: machine)
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
            if let actions = try await receive(event, from: place, in: &machine) { return actions }
        }
        let error = CohortError(
            .conflict,
            "this answers an older round, attempt or generation than round \(machine.session.round), attempt \(place.attempt ?? 0), generation \(machine.session.generation)"
        )
        if event.isReport {
            // A report's sender needs no REFUSED command.
            try await received.settle(.refused(error))
        } else {
            try await refuse(received, because: error, round: stale.round, attempt: stale.attempt, in: machine)
        }
        return nil
    }

    /// - Returns: nil for a stale answer.
    private func receive(_ event: DoneEvent, from place: SessionPeer, in machine: inout SessionMachine) async throws -> SessionActions? {
        switch machine.verdict(on: event) {
        case .stale: return nil
        case .repeated: return SessionActions()
        case .implausible(let reason): return machine.apply(.refused(event, reason: reason), now: clock.now())
        case .current: break
        }
        do {
            let inspected = try await aggregator.inspect(
                event, attempt: place.attempt ?? 0, of: machine.session, collects: machine.hasOwnModels)
            let measured = await measured(event, parameters: inspected?.parameters, of: place, in: machine)
            return machine.apply(
                .done(event, norm: inspected?.norm, streamNorms: inspected?.streamNorms, measured: measured), now: clock.now())
        } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
            return machine.apply(.refused(event, reason: error.message), now: clock.now())
        }
    }

    /// Removes the event from its queue and notifies its sender of the reason.
    private func refuse(
        _ received: ReceivedEvent, because error: CohortError, round: Int, attempt: Int, in machine: SessionMachine
    ) async throws {
        let command = RefusedCommand(
            sessionId: id, generation: machine.session.generation, round: round, attempt: attempt, reason: error.message)
        do {
            try await coordinator.transport.send(.refused(command), to: received.sender)
        } catch let error as CohortError {
            logger.debug("peer \(received.sender.printable(max: 64)) could not be notified of a refusal: \(error)")
        }
        try await received.settle(.refused(error))
    }

    /// Compares the session's peers with their documents.
    private func refreshPeers(_ machine: inout SessionMachine) async throws -> SessionActions {
        if machine.session.cancelRequested { return machine.apply(.cancelled, now: clock.now()) }
        peersSeenAt = time.monotonic
        var actions = SessionActions()
        let known = Dictionary(try await documents.peers(ofSession: id).map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        for place in machine.session.peers where place.isAlive {
            guard let peer = known[place.id] else {
                actions += machine.apply(
                    .peerLost(peerId: place.id, reason: "it is no longer locked to this session"), now: clock.now())
                continue
            }
            if peer.status == .offline {
                actions += machine.apply(
                    peer.offlineReason == .left ? .peerLeft(peerId: place.id) : .peerLost(peerId: place.id, reason: "silent too long"),
                    now: clock.now())
            } else if peer.registration != place.registration {
                actions += machine.apply(.peerRegistered(peer), now: clock.now())
            }
        }
        if machine.session.status == .running, let since = machine.session.startedAt,
            machine.session.peers.count(where: \.isAlive) >= machine.session.settings.peers
        {
            for peer in try await documents.availablePeers()
            where peer.ownerId == machine.session.ownerId && peer.registeredAt > since && machine.place(of: peer.id) == nil {
                actions += machine.apply(.notNeeded(peer), now: clock.now())
            }
        }
        return actions
    }
}
