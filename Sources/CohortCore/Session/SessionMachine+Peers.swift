import FoundationEssentials

/// Who takes part: enabled, ready, lost, back, joined.
extension SessionMachine {
    mutating func prepared(dataset: DatasetInfo, model: ModelSpec, weights: ObjectReference?, in turn: inout Turn) {
        guard session.status == .pending else { return }
        session.dataset = dataset
        session.model = model
        session.weights = weights
        session.startWeights = weights
        let choice = choose(dataset.trainingRows)
        session.settings.rounds = strategy.roundCount(session.settings)
        session.settings.minPeers = max(session.settings.minPeers, strategy.answersNeeded(session.settings))
        let memory = session.settings.optimizerState ?? strategy.optimizerMemory ?? OptimizerMemory.standard(for: model)
        // Said in the document: what it is does not change under way.
        session.settings.optimizerState = memory
        describeStreams(memory)
        session.expectedSeconds = expectedSeconds(training: model, on: dataset)
        // Of rounds that are parts of epochs it would say nothing.
        session.ledger = session.settings.localSteps == nil ? RowLedger(rows: dataset.trainingRows) : nil
        session.status = .running
        session.startedAt = turn.now.date
        change(.decision)
        notify(.status, "Training starts: \(dataset.words(isTargetGiven: session.settings.target != nil))", in: &turn)
        if let choice { notify(.note, choice, in: &turn) }
        for warning in dataset.warnings { notify(.note, "Data: \(warning)", in: &turn) }
        for note in strategy.notes(session.settings) { notify(.note, note, in: &turn) }
        for index in session.peers.indices { excludeIfTooSmall(index, in: &turn) }
        enableAll(in: &turn)
    }

    /// What goes between the peers beside the weights.
    private mutating func describeStreams(_ memory: OptimizerMemory) {
        let names = session.settings.rounds > 1 ? session.settings.optimizer.streamNames : []
        if strategy.recipe(session.settings).controlVariates {
            session.streams = [WeightsLayout.controlVariate]
        } else if memory == .average, !names.isEmpty {
            session.streams = names
        } else if memory == .keep, !names.isEmpty, !strategy.trainsOwnModels, !isBuffered, strategy.optimizerMemory != .keep {
            // An update of an older round would have other streams than its round: what is buffered has none. Nor has a strategy that is made for
            // moments which stay on the peers.
            session.streams = names
            session.streamPeriods = names.map(OptimizerMemory.averagingPeriod)
        }
    }

    /// - Returns: what is to be said of it.
    private mutating func choose(_ rows: Int) -> String? {
        guard let automatic = session.settings.automatic, !automatic.isEmpty else { return nil }
        let peers = session.peers.count(where: \.isAlive)
        let choice = WorkChoice(
            session.settings, ofOwnModels: strategy.trainsOwnModels, rows: rows, peers: peers,
            answers: strategy.bufferSize(session.settings, peers: peers))
        (session.settings.rounds, session.settings.epochs, session.settings.batchSize) = (choice.rounds, choice.epochs, choice.batchSize)
        let words = [("rounds", choice.rounds), ("epochs", choice.epochs), ("batch_size", choice.batchSize)].filter {
            automatic.contains($0.0) && !($0.0 == "rounds" && strategy.trainsOwnModels)
                && !($0.0 == "epochs" && session.settings.localSteps != nil)
        }.map { "\($0.0) \($0.1)" }
        guard !words.isEmpty else { return nil }
        return "Chosen for \(rows) rows on \(peers == 1 ? "one machine" : "\(peers) machines"): \(words.joined(separator: ", "))"
    }

    /// Of computing alone: shares go by the measured speeds, so all are done at one time; with models of their own, the slowest decides.
    private func expectedSeconds(training model: ModelSpec, on dataset: DatasetInfo) -> Double? {
        let speeds = session.peers.filter(\.isAlive).map(\.speed)
        // How long a module's step takes does not follow from how many parameters it has.
        guard model.module == nil, let slowest = speeds.min(), slowest > 0 else { return nil }
        let answers = strategy.bufferSize(session.settings, peers: speeds.count)
        if let localSteps = session.settings.localSteps {
            // Whatever rows they have, all make as many.
            let samples = Double(localSteps) * Double(session.settings.batchSize) * Double(session.settings.rounds)
            return samples * Double(model.parameterCount) / Double(PeerCapabilities.measuredParameters) / slowest
        }
        let speed = strategy.dealsBySpeed || answers != nil ? speeds.reduce(0, +) : slowest
        let share = answers.map { Double($0) / Double(speeds.count) } ?? 1
        let passes = share * Double(dataset.trainingRows) * Double(session.settings.epochs) * Double(session.settings.rounds)
        return passes * Double(model.parameterCount) / Double(PeerCapabilities.measuredParameters) / speed
    }

    mutating func resumed(in turn: inout Turn) {
        guard session.status == .running else { return }
        isBusy = false
        session.waitingFor = nil
        notify(.status, "A coordinator has taken over; round \(min(session.round + 1, session.settings.rounds)) goes on", in: &turn)
        // Answers that are stored stay; who has not answered starts again. The time away is nobody's lateness.
        for index in session.peers.indices where session.peers[index].isAlive {
            if session.peers[index].state != .done { session.peers[index].state = .locked }
            session.peers[index].workRound = nil
        }
        roundBeganAt = session.roundStartedAt == nil ? nil : turn.now.seconds
        change(.decision)
        enableAll(in: &turn)
    }

    mutating func recovered(in turn: inout Turn) {
        guard session.status == .running else { return }
        isBusy = false
        roundBeganAt = session.roundStartedAt == nil ? nil : turn.now.seconds
        session.waitingFor = nil
        change(.decision)
        for index in session.peers.indices { session.peers[index].workRound = nil }
        for peer in session.peers where peer.isAlive {
            switch peer.state {
            case .locked, .loading:
                if session.roundStartedAt == nil { awaited.insert(peer.id) } else { lockedSince[peer.id] = turn.now.seconds }
                turn.send(.enable(peerId: peer.id, prepares: peer.state == .loading))
            case .training:
                watch.begin(peer.id, at: turn.now.seconds)
                turn.send(.train(peerId: peer.id))
            default: break
            }
        }
        awaitedSince = turn.now.seconds
    }

    private mutating func enableAll(in turn: inout Turn) {
        awaited = Set(session.peers.filter { $0.isAlive && $0.state == .locked }.map(\.id))
        awaitedSince = turn.now.seconds
        for peer in session.peers where peer.isAlive { turn.send(.enable(peerId: peer.id, prepares: false)) }
    }

    mutating func enabled(_ event: EnabledEvent, in turn: inout Turn) {
        guard session.status == .running, let index = index(event.peerId), event.generation ?? session.generation == session.generation,
            session.peers[index].state == .locked
        else { return }
        awaited.remove(event.peerId)
        lockedSince[event.peerId] = nil
        if event.ready == false {
            session.peers[index].state = .loading
            change(.decision)
            watch.begin(event.peerId, at: turn.now.seconds)
        } else if session.roundStartedAt != nil, session.peers[index].hasWork, session.peers[index].answer?.round != session.round {
            // A peer that restarted within the round gets its work again; a stored answer stays.
            session.peers[index].state = .training
            session.peers[index].workRound = nil
            change(.decision)
            watch.begin(event.peerId, at: turn.now.seconds)
            turn.send(.train(peerId: event.peerId))
        } else {
            // Whoever takes the session over asks again.
            session.peers[index].state = .ready
            change(.progress)
        }
    }

    mutating func ready(_ event: ReadyEvent, in turn: inout Turn) {
        guard session.status == .running, event.generation == session.generation, let index = index(event.peerId),
            session.peers[index].state == .loading
        else { return }
        session.peers[index].state = .ready
        loadFailures[event.peerId] = nil
        watch.end(event.peerId)
        notify(
            .peer, "\(session.peers[index].name) has the data set and takes part from the next round on", in: &turn,
            peer: session.peers[index])
        change(.decision)
    }

    mutating func progress(_ event: ProgressEvent, in turn: inout Turn) {
        guard session.status == .running, event.generation == session.generation, let index = index(event.peerId) else { return }
        watch.sign(event.peerId, speed: session.peers[index].speed, at: turn.now.seconds)
    }

    /// - Parameter words: what is said after its name.
    mutating func lost(_ peerId: String, reason: String, phrase: String, in turn: inout Turn) {
        guard let index = index(peerId), session.peers[index].isAlive else { return }
        // What it answered for this round counts; it is gone for the next.
        let answered = session.peers[index].state == .done
        session.peers[index].state = .lost
        session.peers[index].message = reason
        session.peers[index].progress = answered ? 1 : 0
        forget(peerId)
        turn.perform(.free(peerId: peerId))
        let rows = session.peers[index].rowCount
        let consequence = !answered && rows > 0 && !strategy.trainsOwnModels ? "; its \(rows) rows go to the others" : ""
        notify(.peer, "\(session.peers[index].name) \(phrase)\(consequence)", in: &turn, peer: session.peers[index])
        change(.decision)
    }

    mutating func forget(_ peerId: String) {
        awaited.remove(peerId)
        lockedSince[peerId] = nil
        watch.end(peerId)
    }

    mutating func registered(_ peer: Peer, in turn: inout Turn) {
        guard let index = index(peer.id), session.peers[index].isAlive, session.peers[index].registration != peer.registration else {
            return
        }
        session.peers[index].registration = peer.registration
        if session.peers[index].state == .training {
            session.peers[index].restarts = (session.peers[index].restarts ?? 0) + 1
            if excludeIfCrashing(index, in: &turn) { return }
        }
        if session.peers[index].state != .done {
            session.peers[index].state = .locked
            lockedSince[peer.id] = turn.now.seconds
        }
        session.peers[index].progress = session.peers[index].state == .done ? 1 : 0
        notify(.peer, "\(peer.name) restarted and is told again what to do", in: &turn, peer: session.peers[index])
        turn.send(.enable(peerId: peer.id, prepares: false))
        change(.decision)
    }

    /// Gives up a peer whose registered memory cannot hold the model.
    /// - Returns: whether it was given up.
    @discardableResult
    private mutating func excludeIfTooSmall(_ index: Int, in turn: inout Turn) -> Bool {
        let peer = session.peers[index]
        guard let model = session.model, let memory = peer.memoryBytes, peer.isAlive else { return false }
        let needed = model.trainingBytes(session.settings.optimizer)
        guard needed > memory else { return false }
        func mebibytes(_ bytes: Int) -> String { "\(max(1, bytes >> 20)) MiB" }
        let reason =
            "training this model needs \(mebibytes(needed)) of memory, the machine has \(mebibytes(memory)): choose smaller hidden layers"
        notify(.peer, "\(peer.name) is left out: \(reason)", in: &turn, peer: peer)
        exclude(index, reason: reason, in: &turn)
        return true
    }

    /// The number of restarts in a row after which a peer gets no more work of this session.
    static let maxRestarts = 3

    /// Gives up a peer whose process the session's work ends again and again, so that the machine is of use to other sessions.
    /// - Returns: whether it was given up.
    private mutating func excludeIfCrashing(_ index: Int, in turn: inout Turn) -> Bool {
        let peer = session.peers[index]
        guard let restarts = peer.restarts, restarts >= Self.maxRestarts else { return false }
        let reason = "its process ended \(restarts) times while it worked on this session"
        notify(.peer, "\(peer.name) is left out: \(reason)", in: &turn, peer: peer)
        exclude(index, reason: reason, in: &turn)
        return true
    }

    mutating func joined(_ peer: Peer, in turn: inout Turn) {
        var place = SessionPeer(peer)
        if let index = index(peer.id) {
            guard !session.peers[index].isAlive else { return }
            place.speed = session.peers[index].speed
            place.drift = session.peers[index].drift
            place.trainedSamples = session.peers[index].trainedSamples
            place.workedSeconds = session.peers[index].workedSeconds
            place.sentBytes = session.peers[index].sentBytes
            place.restarts = session.peers[index].restarts
            if session.peers[index].state == .lost, session.peers[index].registration != peer.registration {
                place.restarts = (place.restarts ?? 0) + 1
            }
            session.peers[index] = place
            if excludeIfCrashing(index, in: &turn) { return }
        } else {
            session.peers.append(place)
            places[peer.id] = session.peers.count - 1
        }
        if let index = index(peer.id), excludeIfTooSmall(index, in: &turn) { return }
        // Between rounds and with nobody else there, the next round waits for it; else it never makes anybody wait.
        if session.roundStartedAt == nil {
            awaited.insert(peer.id)
            awaitedSince = awaitedSince ?? turn.now.seconds
        } else {
            lockedSince[peer.id] = turn.now.seconds
        }
        notify(.peer, "\(peer.name) joins at the next round", in: &turn, peer: place)
        turn.send(.enable(peerId: peer.id, prepares: session.dataset != nil))
        change(.decision)
    }

    /// Said once of each.
    mutating func notNeeded(_ peer: Peer, in turn: inout Turn) {
        guard session.status == .running, index(peer.id) == nil, noted.insert("notNeeded/\(peer.id)").inserted else { return }
        let count = session.settings.peers
        notify(
            .note,
            "\(peer.name) has come, and is not used: the session has the \(count == 1 ? "one peer" : "\(count) peers") that it asked for, and takes another only when one is gone",
            in: &turn)
    }

    /// The session goes on without the peer, and does not take it back.
    mutating func exclude(_ index: Int, reason: String, in turn: inout Turn) {
        session.peers[index].state = .failed
        session.peers[index].message = reason
        session.peers[index].progress = 0
        forget(session.peers[index].id)
        turn.send(.stop(peerId: session.peers[index].id, .failed))
        turn.perform(.free(peerId: session.peers[index].id))
        change(.decision)
    }
}
