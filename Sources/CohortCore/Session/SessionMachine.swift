import FoundationEssentials

/// What a running session does next: a pure value. Events go in, the session's document changes, a ``Step`` comes out; whoever holds it
/// stores the document first and then carries the step out. It knows no clock, no network and no disk.
public struct SessionMachine: Sendable {
    public enum Event: Sendable {
        /// The data set is stored and inspected.
        case prepared(DatasetInfo, ModelSpec, from: ObjectReference? = nil)
        /// This coordinator has taken the session over from another, or from its own last life: everybody is enabled anew.
        case resumed
        /// The same coordinator goes on after a fault of its own: peers work on, and are told again what they may not have heard.
        case recovered
        case enabled(EnabledEvent)
        case ready(ReadyEvent)
        case progress(ProgressEvent)
        case heartbeat(HeartbeatEvent)
        /// A DONE whose update was inspected: whole, finite, of the right shape. `norm`: of the step from the round's weights; `streamNorms`: as
        /// ``PeerAnswer/streamNorms``.
        case done(DoneEvent, norm: Double?, streamNorms: [String: Double]? = nil, measured: Counts?)
        /// A DONE whose update is refused.
        case refused(DoneEvent, why: String)
        case error(ErrorEvent)
        /// Silent too long, deleted, or not reachable.
        case peerLost(peerId: String, why: String)
        /// It said goodbye.
        case peerLeft(peerId: String)
        /// Registered anew: it restarted, or was given up and is back. Its work is lost.
        case peerRegistered(Peer)
        /// Claimed for this session: it joins at the next round.
        case joined(Peer)
        /// Free, and came to the pool after the start, while the session has all the peers that it asked for.
        case passedOver(Peer)
        /// The round's answers are in one model now. `measured`: by the coordinator itself, on held-out rows; `outer`: what the server's own optimizer
        /// remembers from here on; then what became of each update.
        case aggregated(ObjectReference, measured: Counts?, outer: OuterState? = nil, [Contribution] = [], of: RoundOutcome? = nil)
        /// The round's answers cannot be made into a model, because of this peer's.
        case aggregationFailed(peerId: String, why: String)
        /// Without this peer's answer the round's model is clearly better.
        case harmful(peerId: String, why: String)
        /// The model file is stored, and the model measured in detail, where that could be done.
        case concluded(ObjectReference, Metrics, Evaluation?, version: Int? = nil)
        case cancelled
        case failed(String)
        case tick
    }

    public struct Rules: Sendable {
        /// Seconds that a peer may take to answer ENABLE before the round begins without it.
        public var enableWait: Double
        /// Seconds to wait for others when fewer than `min_peers` are there.
        public var peerWait: Double
        /// Seconds; the shortest grace that a round gives those who have not answered.
        public var roundGrace: Double
        /// Seconds; the shortest time without a sign of work after which a peer is left out.
        public var progressWait: Double
        /// Seconds that a session may train: then it ends with the best weights so far.
        public var longestRun: Double

        public init(
            enableWait: Double = 30, peerWait: Double = 60, roundGrace: Double = 5, progressWait: Double = 60,
            longestRun: Double = .infinity
        ) {
            self.longestRun = longestRun
            self.enableWait = enableWait
            self.peerWait = peerWait
            self.roundGrace = roundGrace
            self.progressWait = progressWait
        }
    }

    public internal(set) var session: Session
    let strategy: any Strategy
    let rules: Rules
    /// Round times seen.
    var deadline: RoundDeadline
    var watch: WorkWatch
    /// When the round's TRAIN went out, on the run's clock.
    var roundBegan: Double?
    /// Who the next round waits for: those enabled at the start or at a takeover, not those who join.
    var awaited: Set<String> = []
    var awaitedSince: Double?
    var waitingSince: Double?
    /// Peers that were told again what to do in mid-round, and since when they owe ENABLED.
    var lockedSince: [String: Double] = [:]
    /// When work was given that is of an earlier round by now.
    var workBegan: [String: Double] = [:]
    /// Aggregating or concluding: nothing begins until that is reported done.
    var isBusy = false
    /// Refused answers and retryable errors of this round, by peer.
    var retries: [String: Int] = [:]
    /// Failures to load the data set, by peer, until it has it.
    var loadFailures: [String: Int] = [:]
    var evaluationTries = 0
    /// The best checkpoint when old ones were last discarded.
    var outdatedBest: String?
    /// Things that were noted once for each peer.
    var noted: Set<String> = []
    /// The document differs from what is stored.
    public internal(set) var isChanged = false
    /// It differs in something that must be stored before anything else is done (not only in progress).
    public internal(set) var mustStore = false
    /// Where a peer stands in the document.
    var places: [String: Int]

    public init(_ session: Session, strategy: any Strategy, rules: Rules) {
        self.session = session
        self.strategy = strategy
        self.rules = rules
        deadline = RoundDeadline(minGrace: rules.roundGrace)
        watch = WorkWatch(floor: rules.progressWait)
        places = Self.places(session.peers)
    }

    /// The document as stored: its revision, lease and generation are the store's.
    public mutating func stored(_ session: Session) {
        if session.peers.count != self.session.peers.count { places = Self.places(session.peers) }
        self.session = session
        isChanged = false
        mustStore = false
    }

    /// One event, and what is due after it.
    public mutating func handle(_ event: Event, now: Moment) -> Step {
        var step = apply(event, now: now)
        advance(now: now, &step)
        return step
    }

    /// The newest closed round with what its receipt has: beside the document, which has it in short.
    var closedRound: RoundSummary?

    /// Takes over the newest closed round from where rounds are recorded.
    public mutating func restore(_ round: RoundSummary?) {
        if round?.round == session.lastRound?.round { closedRound = round }
    }

    /// What the event itself changes, in constant time for what peers report: thousands of events may be applied before
    /// ``advance(now:_:)`` looks once at what they amount to.
    public mutating func apply(_ event: Event, now: Moment) -> Step {
        var step = Step()
        guard !session.status.isFinal else { return step }
        switch event {
        case .prepared(let dataset, let model, let weights): prepared(dataset, model, weights, now, &step)
        case .resumed: resumed(now, &step)
        case .recovered: recovered(now, &step)
        case .enabled(let event): enabled(event, now, &step)
        case .ready(let event): ready(event, now, &step)
        case .progress(let event): progress(event, now, &step)
        case .heartbeat(let event): heartbeat(event, now, &step)
        case .done(let event, let norm, let streamNorms, let measured):
            done(event, norm: norm, streamNorms: streamNorms, measured: measured, now, &step)
        case .refused(let event, let why): refused(event, why, now, &step)
        case .error(let event): error(event, now, &step)
        case .peerLost(let id, let why): lost(id, why, "is lost (\(why))", now, &step)
        case .peerLeft(let id): lost(id, "it left", "has left", now, &step)
        case .peerRegistered(let peer): registered(peer, now, &step)
        case .joined(let peer): joined(peer, now, &step)
        case .passedOver(let peer): passedOver(peer, now, &step)
        case .aggregated(let weights, let measured, let outer, let contributions, let outcome):
            let old = session.outer?.slots
            aggregated(weights, measured, outer, contributions, outcome, now, &step)
            if let old, session.outer == outer, old.key != outer?.slots?.key { step.discarded.append(old.key) }
        case .aggregationFailed(let id, let why): aggregationFailed(id, why, now, &step)
        case .harmful(let id, let why): harmful(id, why, now, &step)
        case .concluded(let object, let metrics, let evaluation, let version):
            session.modelVersion = version
            concluded(object, metrics, evaluation, now, &step)
        case .cancelled: end(.cancelled, nil, now, &step)
        case .failed(let why): end(.failed, why, now, &step)
        case .tick: break
        }
        return step
    }

    /// Begins, closes and ends what is due after the events that made `step`, and says in its notices how far the session is. Walks all
    /// peers.
    public mutating func advance(now: Moment, _ step: inout Step) {
        if !session.status.isFinal { advance(now, &step) }
        guard step.notices.contains(where: { $0.progress == nil }) else { return }
        let progress = session.progress
        for index in step.notices.indices where step.notices[index].progress == nil { step.notices[index].progress = progress }
    }

    /// Whether each peer trains a model of its own, which is measured by itself.
    public var hasOwnModels: Bool { strategy.trainsOwnModels }

    // MARK: Who is who

    /// Constant time: thousands of peers report every epoch.
    func index(_ peerId: String) -> Int? { places[peerId] }

    private static func places(_ peers: [SessionPeer]) -> [String: Int] {
        Dictionary(peers.enumerated().map { ($1.id, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// Of the peer's round and the session's generation; a message of another is fenced off.
    public func accepts(generation: Int, round: Int, peerId: String) -> Bool {
        guard let index = index(peerId) else { return false }
        return generation == session.generation && round == session.peers[index].workRound ?? session.round && session.status == .running
    }

    // MARK: The document

    mutating func change(_ must: Bool) {
        isChanged = true
        if must { mustStore = true }
    }

    mutating func newAttempt() -> Int {
        defer { session.attempts = (session.attempts ?? 0) + 1 }
        return session.attempts ?? 0
    }

    // MARK: Words

    mutating func notify(_ kind: SessionNotice.Kind, _ message: String, _ now: Moment, _ step: inout Step, peer: SessionPeer? = nil) {
        notify(SessionNotice(sessionId: session.id, kind: kind, time: now.date, message: message), &step, peer: peer)
    }

    mutating func notify(_ notice: SessionNotice, _ step: inout Step, peer: SessionPeer? = nil) {
        var notice = notice
        notice.status = session.status
        notice.round = notice.round ?? session.round
        notice.rounds = session.settings.rounds
        notice.epochs =
            session.settings.localSteps == nil ? session.settings.epochs : peer.map { session.settings.hyperparameters(of: $0).epochs }
        notice.peerId = peer?.id
        notice.peerName = peer?.name
        step.notices.append(notice)
        guard notice.kind != .epoch, notice.kind != .round else { return }
        var events = session.events ?? []
        events.append(SessionEvent(notice))
        session.events = events.suffix(SessionEvent.most)
        change(false)
    }
}
