public import FoundationEssentials

/// What a running session does next: a pure value. Events go in, the session's document changes, actions come out; whoever holds it stores
/// the document first and then carries the actions out. It knows no clock, no network and no disk.
public struct SessionMachine: Sendable {
    public enum Event: Sendable {
        /// The data set is stored and looked through.
        case prepared(DatasetInfo, ModelSpec)
        /// This coordinator has taken the session over: its generation is in the document.
        case resumed
        case enabled(EnabledEvent)
        case heartbeat(HeartbeatEvent)
        /// A DONE whose update has been looked at: whole, finite, of the right shape. `norm`: of the step from the round's weights.
        case done(DoneEvent, norm: Double?)
        /// A DONE whose update is refused.
        case refused(DoneEvent, why: String)
        case error(ErrorEvent)
        /// Silent too long, said goodbye, or deleted.
        case peerLost(peerId: String, why: String)
        /// Registered anew: it restarted, or was given up and is back. Its work is lost.
        case peerRegistered(Peer)
        /// Claimed for this session: it joins at the next round.
        case joined(Peer)
        /// The round's answers are in one model now.
        case aggregated(ObjectReference)
        /// The model file is stored.
        case concluded(ObjectReference, Metrics)
        case cancelled
        case failed(String)
        case tick
    }

    public enum Action: Sendable {
        case enable(peerId: String)
        case train(peerId: String)
        case stop(peerIds: [String], StopCommand.Reason)
        /// Make one model of the round's accepted answers, then say `aggregated`.
        case aggregate(RoundOutcome)
        /// Objects that are needed no more, once the document says so.
        case discard([String])
        /// Write the model file from these weights, then say `concluded`.
        case conclude(ObjectReference, Metrics)
        /// Answers of this round with this generation must not come in any more: raise it, then say `resumed` no more than that.
        case raiseGeneration
        /// Claim up to so many ONLINE peers, and say `joined` for each.
        case claim(Int)
        case free(peerId: String)
        case record([MetricPoint])
        /// Remember an answer until its round is closed; before its peer is told that it is taken.
        case accept(RecordedAnswer)
        /// What became of a round, anew or with its validation known.
        case summarize(RoundSummary)
        case tell(SessionNotice)
        /// The session has its final status: free all peers, remove its queue and its leftovers.
        case end
    }

    public struct Rules: Sendable {
        /// Seconds that a peer may take to answer ENABLE before the round begins without it.
        public var enableWait: Double
        /// Seconds to wait for others when fewer than `min_peers` are there.
        public var peerWait: Double
        /// Seconds; the shortest grace that a round gives those who have not answered.
        public var roundGrace: Double

        public init(enableWait: Double = 30, peerWait: Double = 60, roundGrace: Double = 5) {
            self.enableWait = enableWait
            self.peerWait = peerWait
            self.roundGrace = roundGrace
        }
    }

    public internal(set) var session: Session
    let strategy: any Strategy
    let rules: Rules
    /// Round times seen.
    var deadline: RoundDeadline
    /// Who the next round waits for: those enabled at the start or at a takeover, not those who join.
    var awaited: Set<String> = []
    var awaitedSince: Date?
    var waitingSince: Date?
    /// Aggregating or concluding: nothing begins until that is said done.
    var isBusy = false
    /// Retryable errors of this round, by peer.
    var retries: [String: Int] = [:]
    var evaluationTries = 0
    /// The best checkpoint when old ones were last discarded.
    var outdatedBest: String?
    /// The document differs from what is stored.
    public internal(set) var isChanged = false
    /// It differs in something that must be stored before anything else is done (not only in progress).
    public internal(set) var mustStore = false

    public init(_ session: Session, strategy: any Strategy, rules: Rules) {
        self.session = session
        self.strategy = strategy
        self.rules = rules
        deadline = RoundDeadline(minGrace: rules.roundGrace)
    }

    /// The document as stored: its revision, lease and generation are the store's.
    public mutating func stored(_ session: Session) {
        self.session = session
        isChanged = false
        mustStore = false
    }

    public mutating func handle(_ event: Event, now: Date) -> [Action] {
        guard !session.status.isFinal else { return [] }
        var actions: [Action] = []
        switch event {
        case .prepared(let dataset, let model): prepared(dataset, model, now, &actions)
        case .resumed: resumed(now, &actions)
        case .enabled(let event): enabled(event, now, &actions)
        case .heartbeat(let event): heartbeat(event, now, &actions)
        case .done(let event, let norm): done(event, norm, now, &actions)
        case .refused(let event, let why): refused(event, why, now, &actions)
        case .error(let event): error(event, now, &actions)
        case .peerLost(let id, let why): lost(id, why, now, &actions)
        case .peerRegistered(let peer): registered(peer, now, &actions)
        case .joined(let peer): joined(peer, now, &actions)
        case .aggregated(let weights): aggregated(weights, now, &actions)
        case .concluded(let object, let metrics): concluded(object, metrics, now, &actions)
        case .cancelled: end(.cancelled, nil, now, &actions)
        case .failed(let why): end(.failed, why, now, &actions)
        case .tick: break
        }
        advance(now, &actions)
        return actions
    }

    // MARK: Peers

    func index(_ peerId: String) -> Int? { session.peers.firstIndex { $0.id == peerId } }

    /// Of this session's round and generation; a message of another is fenced off.
    public func accepts(generation: Int, round: Int, peerId: String) -> Bool {
        generation == session.generation && round == session.round && index(peerId) != nil && session.status == .running
    }

    private mutating func prepared(_ dataset: DatasetInfo, _ model: ModelSpec, _ now: Date, _ actions: inout [Action]) {
        guard session.status == .pending else { return }
        session.dataset = dataset
        session.model = model
        session.settings.rounds = strategy.roundCount(session.settings)
        session.ledger = RowLedger(rows: dataset.schema.trainingRows)
        session.status = .running
        session.startedAt = now
        change(true)
        tell(
            .status,
            "Training starts: \(dataset.schema.trainingRows) rows to train on, \(dataset.schema.validationRows) held out, \(dataset.schema.featureCount) features, target '\(dataset.schema.target)'",
            now, &actions)
        for warning in dataset.warnings { tell(.note, "Data: \(warning)", now, &actions) }
        enableAll(now, &actions)
    }

    private mutating func resumed(_ now: Date, _ actions: inout [Action]) {
        guard session.status == .running else { return }
        isBusy = false
        tell(.status, "A coordinator has taken over; round \(min(session.round + 1, session.settings.rounds)) goes on", now, &actions)
        // Answers that are stored stay; who has not answered starts again.
        for index in session.peers.indices where session.peers[index].isAlive {
            if session.peers[index].state != .done { session.peers[index].state = .locked }
        }
        change(true)
        enableAll(now, &actions)
    }

    private mutating func enableAll(_ now: Date, _ actions: inout [Action]) {
        awaited = Set(session.peers.filter { $0.isAlive && $0.state == .locked }.map(\.id))
        awaitedSince = now
        for peer in session.peers where peer.isAlive { actions.append(.enable(peerId: peer.id)) }
    }

    private mutating func enabled(_ event: EnabledEvent, _ now: Date, _ actions: inout [Action]) {
        guard let index = index(event.peerId), event.generation ?? session.generation == session.generation else { return }
        guard session.peers[index].state == .locked else { return }
        awaited.remove(event.peerId)
        // A peer that restarted within the round gets its work again; a stored answer stays.
        if session.roundStartedAt != nil, !session.peers[index].rows.isEmpty || session.peers[index].validationRows != nil,
            session.peers[index].answer?.round != session.round
        {
            session.peers[index].state = .training
            actions.append(.train(peerId: event.peerId))
        } else {
            session.peers[index].state = .ready
        }
        change(true)
    }

    private mutating func lost(_ peerId: String, _ why: String, _ now: Date, _ actions: inout [Action]) {
        guard let index = index(peerId), session.peers[index].isAlive else { return }
        // What it answered for this round counts; it is gone for the next.
        let answered = session.peers[index].state == .done
        session.peers[index].state = .lost
        session.peers[index].message = why
        session.peers[index].progress = answered ? 1 : 0
        awaited.remove(peerId)
        actions.append(.free(peerId: peerId))
        let rows = session.peers[index].rows.reduce(0) { $0 + $1.count }
        let consequence = !answered && rows > 0 && strategy.synchronous ? "; its \(rows) rows go to the others" : ""
        tell(.peer, "\(session.peers[index].name) is lost (\(why))\(consequence)", now, &actions, peer: session.peers[index])
        change(true)
    }

    private mutating func registered(_ peer: Peer, _ now: Date, _ actions: inout [Action]) {
        guard let index = index(peer.id), session.peers[index].isAlive, session.peers[index].registration != peer.registration else {
            return
        }
        session.peers[index].registration = peer.registration
        if session.peers[index].state != .done { session.peers[index].state = .locked }
        session.peers[index].progress = session.peers[index].state == .done ? 1 : 0
        tell(.peer, "\(peer.name) restarted and is told again what to do", now, &actions, peer: session.peers[index])
        actions.append(.enable(peerId: peer.id))
        change(true)
    }

    private mutating func joined(_ peer: Peer, _ now: Date, _ actions: inout [Action]) {
        var place = SessionPeer(peer)
        if let index = index(peer.id) {
            guard !session.peers[index].isAlive else { return }
            place.speed = session.peers[index].speed
            place.trainedSamples = session.peers[index].trainedSamples
            session.peers[index] = place
        } else {
            session.peers.append(place)
        }
        if session.roundStartedAt == nil {
            awaited.insert(peer.id)
            awaitedSince = awaitedSince ?? now
        }
        tell(.peer, "\(peer.name) joins at the next round", now, &actions, peer: place)
        actions.append(.enable(peerId: peer.id))
        change(true)
    }

    // MARK: A round's events

    private mutating func heartbeat(_ event: HeartbeatEvent, _ now: Date, _ actions: inout [Action]) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training, event.epoch > 0
        else { return }
        let isNew = event.epoch > session.peers[index].epoch
        let loss = event.loss.isFinite ? event.loss : nil
        if isNew {
            session.peers[index].epoch = event.epoch
            session.peers[index].loss = loss
            session.peers[index].accuracy = event.accuracy
            session.peers[index].samplesPerSecond = event.samplesPerSecond
            session.peers[index].progress = min(max(event.progress ?? 0, session.peers[index].progress), 1)
            change(false)
        }
        let peer = session.peers[index]
        actions.append(
            .record([
                MetricPoint(
                    sessionId: session.id, peerId: peer.id, peerName: peer.name, round: event.round, epoch: event.epoch, loss: loss,
                    accuracy: event.accuracy, r2: nil, samplesPerSecond: event.samplesPerSecond, time: now)
            ]))
        guard isNew else { return }
        var notice = SessionNotice(
            sessionId: session.id, kind: .epoch, time: now,
            message: "\(peer.name) finished epoch \(event.epoch) of round \(event.round + 1)")
        notice.epoch = event.epoch
        notice.loss = loss
        notice.accuracy = event.accuracy
        notice.samplesPerSecond = event.samplesPerSecond
        tell(notice, &actions, peer: peer)
    }

    private mutating func done(_ event: DoneEvent, _ norm: Double?, _ now: Date, _ actions: inout [Action]) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training
        else { return }
        if let norm, let median = medianNorm, median > 0, norm > 3 * median {
            let words =
                "\(session.peers[index].name)'s update is \(Int(min(norm / median, 1e9))) times as long as the median of those before"
            if let most = session.settings.maxNormRatio, norm > most * median {
                return refused(event, "\(words); max_norm_ratio is \(most)", now, &actions)
            }
            tell(.note, words, now, &actions, peer: session.peers[index])
        }
        if let norm {
            session.updateNorms.append(norm)
            if session.updateNorms.count > 64 { session.updateNorms.removeFirst(session.updateNorms.count - 64) }
        }
        let answer = PeerAnswer(round: event.round, results: event.results, update: event.update, answeredAt: now)
        take(answer, of: index)
        actions.append(
            .accept(
                RecordedAnswer(peerId: event.peerId, generation: event.generation, answer: answer, updateData: event.updateData)))
    }

    private mutating func take(_ answer: PeerAnswer, of index: Int) {
        let results = answer.results
        session.peers[index].state = .done
        session.peers[index].progress = 1
        session.peers[index].answer = answer
        session.peers[index].trainedSamples += max(0, results.samples)
        if results.loss != nil {
            session.peers[index].loss = results.loss
            session.peers[index].accuracy = results.accuracy
        }
        if results.seconds > 0, results.samples > 0 {
            session.peers[index].samplesPerSecond = Double(results.samples) / results.seconds
        }
        if let begun = session.roundStartedAt { deadline.add(answer.answeredAt.timeIntervalSince(begun)) }
        change(false)
    }

    /// Takes over what was recorded before this machine began: answers to the round under way that its document does not have.
    public mutating func restore(_ answers: [RecordedAnswer]) {
        guard session.status == .running, session.roundStartedAt != nil else { return }
        for recorded in answers
        where recorded.answer.round == session.round && recorded.generation >= session.answersFrom ?? 0 {
            guard let index = index(recorded.peerId), session.peers[index].isAlive, session.peers[index].answer?.round != session.round,
                !session.peers[index].rows.isEmpty || session.peers[index].validationRows != nil
            else { continue }
            take(recorded.answer, of: index)
        }
    }

    /// The running median; nil before there are five.
    private var medianNorm: Double? {
        guard session.updateNorms.count >= 5 else { return nil }
        return session.updateNorms.sorted()[session.updateNorms.count / 2]
    }

    private mutating func refused(_ event: DoneEvent, _ why: String, _ now: Date, _ actions: inout [Action]) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training
        else { return }
        session.peers[index].message = "update of round \(event.round + 1) refused: \(why)"
        tell(.peer, "\(session.peers[index].name)'s update is refused: \(why)", now, &actions, peer: session.peers[index])
        retry(index, why: why, now, &actions)
    }

    private mutating func error(_ event: ErrorEvent, _ now: Date, _ actions: inout [Action]) {
        guard accepts(generation: event.generation, round: event.round, peerId: event.peerId), let index = index(event.peerId),
            session.peers[index].state == .training
        else { return }
        session.peers[index].message = event.message
        tell(.peer, "\(session.peers[index].name): \(event.message)", now, &actions, peer: session.peers[index])
        if event.retryable { retry(index, why: event.message, now, &actions) } else { give(up: index, event.message, &actions) }
    }

    /// Three tries a round.
    private mutating func retry(_ index: Int, why: String, _ now: Date, _ actions: inout [Action]) {
        let id = session.peers[index].id
        retries[id, default: 0] += 1
        if retries[id, default: 0] < 3 {
            actions.append(.train(peerId: id))
            change(true)
        } else {
            give(up: index, why, &actions)
        }
    }

    private mutating func give(up index: Int, _ why: String, _ actions: inout [Action]) {
        session.peers[index].state = .failed
        session.peers[index].message = why
        session.peers[index].progress = 0
        actions.append(.stop(peerIds: [session.peers[index].id], .failed))
        actions.append(.free(peerId: session.peers[index].id))
        change(true)
    }

    // MARK: Words

    mutating func change(_ must: Bool) {
        isChanged = true
        if must { mustStore = true }
    }

    func tell(_ kind: SessionNotice.Kind, _ message: String, _ now: Date, _ actions: inout [Action], peer: SessionPeer? = nil) {
        tell(SessionNotice(sessionId: session.id, kind: kind, time: now, message: message), &actions, peer: peer)
    }

    func tell(_ notice: SessionNotice, _ actions: inout [Action], peer: SessionPeer? = nil) {
        var notice = notice
        notice.status = session.status
        notice.progress = session.progress
        notice.round = session.round
        notice.peerId = peer?.id
        notice.peerName = peer?.name
        actions.append(.tell(notice))
    }
}
