import CohortCore
import CohortWire
import FoundationEssentials

/// Peers join, leave, restart, are lost and excluded.
extension SessionMachine {
    // MARK: The start

    mutating func prepared(dataset: DatasetInfo, model: ModelSpec, weights: ObjectReference?, in turn: inout Turn) {
        guard session.status == .pending else { return }
        session.dataset = dataset
        session.model = model
        session.weights = weights
        session.startWeights = weights
        let choice = chooseWork(rows: dataset.trainingRows)
        session.settings.rounds = strategy.roundCount(session.settings)
        session.settings.minPeers = max(session.settings.minPeers, strategy.answersNeeded(session.settings))
        // Stored, so that it stays the same for the whole session.
        let memory = session.settings.optimizerState ?? strategy.optimizerMemory ?? OptimizerMemory.standard(for: model)
        session.settings.optimizerState = memory
        describeStreams(memory)
        session.expectedSeconds = expectedSeconds(training: model, on: dataset)
        // Rounds that are parts of epochs do not train each row equally often.
        session.ledger = session.settings.localSteps == nil ? RowLedger(rows: dataset.trainingRows) : nil
        session.status = .running
        session.startedAt = turn.now.date
        change(.decision)
        notify(.status, Notices.starts(dataset, isTargetGiven: session.settings.target != nil), in: &turn)
        if let choice { notify(.note, choice, in: &turn) }
        for warning in dataset.warnings { notify(.note, "Data: \(warning)", in: &turn) }
        for note in strategy.notes(session.settings) { notify(.note, note, in: &turn) }
        for index in session.peers.indices { excludeIfTooSmall(index, in: &turn) }
        enableAll(in: &turn)
    }

    /// Decides which tensors travel beside the weights.
    private mutating func describeStreams(_ memory: OptimizerMemory) {
        let names = session.settings.rounds > 1 ? session.settings.optimizer.streamNames : []
        if strategy.recipe(session.settings).controlVariates {
            session.streams = [WeightsLayout.controlVariate]
        } else if memory == .average, !names.isEmpty {
            session.streams = names
        } else if memory == .keep, !names.isEmpty, !strategy.trainsOwnModels, !isBuffered, strategy.optimizerMemory != .keep {
            // Buffered rounds have none, as an update of an older round would have other streams than the round that it counts in; nor have strategies
            // that keep the moments on the peers by design.
            session.streams = names
            session.streamPeriods = names.map(OptimizerMemory.averagingPeriod)
        }
    }

    /// Chooses the settings that the user left open.
    /// - Returns: a notice of what was chosen.
    private mutating func chooseWork(rows: Int) -> String? {
        guard let automatic = session.settings.automatic, !automatic.isEmpty else { return nil }
        let peers = session.peers.count(where: \.isAlive)
        let choice = WorkChoice(
            session.settings, ofOwnModels: strategy.trainsOwnModels, rows: rows, peers: peers,
            answers: strategy.bufferSize(session.settings, peers: peers))
        (session.settings.rounds, session.settings.epochs, session.settings.batchSize) = (choice.rounds, choice.epochs, choice.batchSize)
        let choices = [("rounds", choice.rounds), ("epochs", choice.epochs), ("batch_size", choice.batchSize)].filter {
            automatic.contains($0.0) && !($0.0 == "rounds" && strategy.trainsOwnModels)
                && !($0.0 == "epochs" && session.settings.localSteps != nil)
        }.map { "\($0.0) \($0.1)" }
        return choices.isEmpty ? nil : Notices.chosen(choices, rows: rows, peers: peers)
    }

    /// Estimates the computing time in seconds. Shares are proportional to speed, so all peers end together; with own models, the slowest
    /// decides.
    private func expectedSeconds(training model: ModelSpec, on dataset: DatasetInfo) -> Double? {
        let speeds = session.peers.filter(\.isAlive).map(\.speed)
        // The time of a module's step does not follow from its number of parameters.
        guard model.module == nil, let slowest = speeds.min(), slowest > 0 else { return nil }
        let answers = strategy.bufferSize(session.settings, peers: speeds.count)
        if let localSteps = session.settings.localSteps {
            // Each peer makes the same number of steps, whatever its rows.
            let samples = Double(localSteps) * Double(session.settings.batchSize) * Double(session.settings.rounds)
            return samples * Double(model.parameterCount) / Double(PeerCapabilities.measuredParameters) / slowest
        }
        let speed = strategy.dealsBySpeed || answers != nil ? speeds.reduce(0, +) : slowest
        let share = answers.map { Double($0) / Double(speeds.count) } ?? 1
        let passes = share * Double(dataset.trainingRows) * Double(session.settings.epochs) * Double(session.settings.rounds)
        return passes * Double(model.parameterCount) / Double(PeerCapabilities.measuredParameters) / speed
    }

    // MARK: Takeovers

    mutating func resumed(in turn: inout Turn) {
        guard session.status == .running else { return }
        session.waitingFor = nil
        notify(.status, Notices.takenOver(round: min(session.round + 1, session.settings.rounds)), in: &turn)
        // Stored answers stay; the other peers start again. The time without a coordinator makes no peer late.
        for index in session.peers.indices where session.peers[index].isAlive { session.peers[index].lock() }
        phase = session.roundStartedAt == nil ? .betweenRounds : .collecting(since: turn.now.seconds)
        change(.decision)
        enableAll(in: &turn)
    }

    mutating func recovered(in turn: inout Turn) {
        guard session.status == .running else { return }
        phase = session.roundStartedAt == nil ? .betweenRounds : .collecting(since: turn.now.seconds)
        session.waitingFor = nil
        change(.decision)
        for index in session.peers.indices { session.peers[index].workRound = nil }
        var awaited: [String] = []
        for peer in session.peers where peer.isAlive {
            switch peer.state {
            case .locked, .loading:
                if phase == .betweenRounds { awaited.append(peer.id) } else { roster.lock(peer.id, since: turn.now.seconds) }
                turn.send(.enable(peerId: peer.id, prepares: peer.state == .loading))
            case .training:
                roster.watch.begin(peer.id, at: turn.now.seconds)
                turn.send(.train(peerId: peer.id))
            default: break
            }
        }
        roster.awaitEnabled(awaited, since: turn.now.seconds)
    }

    private mutating func enableAll(in turn: inout Turn) {
        let locked = session.peers.filter { $0.isAlive && $0.state == .locked }.map(\.id)
        roster.replaceAwaited(locked, since: turn.now.seconds)
        for peer in session.peers where peer.isAlive { turn.send(.enable(peerId: peer.id, prepares: false)) }
    }

    // MARK: Reports of peers

    mutating func enabled(_ event: EnabledEvent, in turn: inout Turn) {
        guard session.status == .running, let index = index(event.peerId), event.generation ?? session.generation == session.generation,
            session.peers[index].state == .locked
        else { return }
        roster.enabled(event.peerId)
        if event.ready == false {
            session.peers[index].load()
            change(.decision)
            roster.watch.begin(event.peerId, at: turn.now.seconds)
        } else if session.roundStartedAt != nil, session.peers[index].hasWork, session.peers[index].answer?.round != session.round {
            // A peer that restarted within the round gets its work again; a stored answer stays.
            session.peers[index].train()
            change(.decision)
            roster.watch.begin(event.peerId, at: turn.now.seconds)
            turn.send(.train(peerId: event.peerId))
        } else {
            // Not stored at once: another coordinator sends ENABLE again.
            session.peers[index].becomeReady()
            change(.progress)
        }
    }

    mutating func ready(_ event: ReadyEvent, in turn: inout Turn) {
        guard session.status == .running, event.generation == session.generation, let index = index(event.peerId),
            session.peers[index].state == .loading
        else { return }
        session.peers[index].becomeReady()
        roster.loaded(event.peerId)
        notify(.peer, Notices.hasData(session.peers[index]), in: &turn, peer: session.peers[index])
        change(.decision)
    }

    mutating func progress(_ event: ProgressEvent, in turn: inout Turn) {
        guard session.status == .running, event.generation == session.generation, let index = index(event.peerId) else { return }
        roster.watch.sign(event.peerId, speed: session.peers[index].speed, at: turn.now.seconds)
    }

    // MARK: Registrations

    mutating func registered(_ peer: Peer, in turn: inout Turn) {
        guard let index = index(peer.id), session.peers[index].isAlive, session.peers[index].registration != peer.registration else {
            return
        }
        session.peers[index].restart(registration: peer.registration)
        if session.peers[index].hasWork, excludeIfCrashing(index, in: &turn) { return }
        if session.peers[index].state == .locked { roster.lock(peer.id, since: turn.now.seconds) }
        notify(.peer, Notices.restarted(session.peers[index]), in: &turn, peer: session.peers[index])
        turn.send(.enable(peerId: peer.id, prepares: false))
        change(.decision)
    }

    mutating func joined(_ peer: Peer, in turn: inout Turn) {
        let place = SessionPeer(peer)
        let index: Int
        if let known = self.index(peer.id) {
            guard !session.peers[known].isAlive else { return }
            index = known
            session.peers[index].rejoin(as: place)
            if excludeIfCrashing(index, in: &turn) { return }
        } else {
            index = session.peers.count
            session.peers.append(place)
            roster.add(peer.id, at: index)
        }
        if excludeIfTooSmall(index, in: &turn) { return }
        // Between rounds the next round waits for the peer; an open round does not.
        if session.roundStartedAt == nil {
            roster.awaitEnabled(joining: peer.id, since: turn.now.seconds)
        } else {
            roster.lock(peer.id, since: turn.now.seconds)
        }
        notify(.peer, Notices.joins(session.peers[index]), in: &turn, peer: session.peers[index])
        prepare(index, in: &turn)
        change(.decision)
    }

    mutating func notNeeded(_ peer: Peer, in turn: inout Turn) {
        guard session.status == .running, index(peer.id) == nil, roster.reports("notNeeded/\(peer.id)") else { return }
        notify(.note, Notices.notNeeded(peer.name, peers: session.settings.peers), in: &turn)
    }

    // MARK: Losses

    /// - Parameter phrase: follows the peer's name in the notice.
    mutating func lost(_ peerId: String, reason: String, phrase: String, in turn: inout Turn) {
        guard let index = index(peerId), session.peers[index].isAlive else { return }
        let rowsMove = session.peers[index].state != .done && session.peers[index].rowCount > 0 && !strategy.trainsOwnModels
        lose(index, reason: reason, notice: Notices.gone(session.peers[index], phrase: phrase, rowsMove: rowsMove), in: &turn)
    }

    mutating func loseUnanswering(_ peerId: String, in turn: inout Turn) {
        guard let index = index(peerId), session.peers[index].isAlive else { return }
        lose(index, reason: "did not answer ENABLE", notice: Notices.unanswered(session.peers[index]), in: &turn)
    }

    private mutating func lose(_ index: Int, reason: String, notice: String, in turn: inout Turn) {
        session.peers[index].lose(reason: reason)
        let peer = session.peers[index]
        roster.forget(peer.id)
        turn.perform(.free(peerId: peer.id))
        notify(.peer, notice, in: &turn, peer: peer)
        change(.decision)
    }

    // MARK: Exclusions

    /// The session goes on without the peer, and does not take it back.
    mutating func exclude(_ index: Int, reason: String, in turn: inout Turn) {
        session.peers[index].exclude(reason: reason)
        let id = session.peers[index].id
        roster.forget(id)
        turn.send(.stop(peerId: id, .failed))
        turn.perform(.free(peerId: id))
        change(.decision)
    }

    mutating func excludeWithNotice(_ index: Int, reason: String, in turn: inout Turn) {
        notify(.peer, Notices.excluded(session.peers[index], reason: reason), in: &turn, peer: session.peers[index])
        exclude(index, reason: reason, in: &turn)
    }

    /// Excludes a peer whose registered memory cannot hold the model.
    /// - Returns: whether it was excluded.
    @discardableResult
    private mutating func excludeIfTooSmall(_ index: Int, in turn: inout Turn) -> Bool {
        let peer = session.peers[index]
        guard let model = session.model, let memory = peer.memoryBytes, peer.isAlive else { return false }
        let needed = model.trainingBytes(session.settings.optimizer)
        guard needed > memory else { return false }
        excludeWithNotice(index, reason: Notices.tooLittleMemory(needed: needed, available: memory), in: &turn)
        return true
    }

    /// The number of restarts in a row after which a peer is excluded.
    static let maxRestarts = 3

    /// Excludes a peer whose process ends during this session's work again and again: other sessions can use it.
    /// - Returns: whether it was excluded.
    private mutating func excludeIfCrashing(_ index: Int, in turn: inout Turn) -> Bool {
        guard let restarts = session.peers[index].restarts, restarts >= Self.maxRestarts else { return false }
        excludeWithNotice(index, reason: Notices.crashing(restarts), in: &turn)
        return true
    }

    /// Excludes peers that stopped loading the data set. No round waits for a peer that loads.
    mutating func excludeStalledLoaders(in turn: inout Turn) {
        for index in session.peers.indices where session.peers[index].state == .loading {
            let silence = roster.watch.silence(of: session.peers[index].id, at: turn.now.seconds)
            guard silence >= roster.watch.patience(speed: session.peers[index].speed) else { continue }
            excludeWithNotice(index, reason: Notices.loadingStalled(silence), in: &turn)
        }
    }
}
