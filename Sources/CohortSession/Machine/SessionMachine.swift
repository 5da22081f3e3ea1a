public import CohortCore
public import CohortWire
import FoundationEssentials

/// Decides what a running session does next. A pure value without clock, network or disk: an event changes the session's document and results in
/// ``SessionActions``; the caller stores the document and then executes the actions.
public struct SessionMachine: Sendable {
    public enum Event: Sendable {
        /// The data set is stored and inspected.
        case prepared(DatasetInfo, ModelSpec, from: ObjectReference? = nil)
        /// This coordinator has taken the session over from another one or from its previous process: every peer is enabled again.
        case resumed
        /// The same coordinator continues after a fault: peers keep working, and commands that they may have missed are sent again.
        case recovered
        case enabled(EnabledEvent)
        case ready(ReadyEvent)
        case progress(ProgressEvent)
        case heartbeat(HeartbeatEvent)
        /// A DONE whose update is valid: complete, finite, of the right shape. `norm` is the L2 norm of the change from the round's weights;
        /// `streamNorms` are as in ``PeerAnswer/streamNorms``.
        case done(DoneEvent, norm: Double?, streamNorms: [String: Double]? = nil, measured: Counts?)
        /// A DONE whose update is refused.
        case refused(DoneEvent, reason: String)
        case error(ErrorEvent)
        /// The peer was silent for too long, was deleted, or cannot be reached.
        case peerLost(peerId: String, reason: String)
        /// The peer ended its registration.
        case peerLeft(peerId: String)
        /// The peer registered again, after a restart or after it was lost. Its unfinished work is lost.
        case peerRegistered(Peer)
        /// The peer was claimed for this session: it joins at the next round.
        case joined(Peer)
        /// The peer came online after the start, while the session has as many peers as it asked for.
        case notNeeded(Peer)
        /// The round's answers were aggregated. `measured` is the server's own measurement on held-out rows, `outer` the new state of the outer
        /// optimizer, `contributions` what each update added.
        case aggregated(
            ObjectReference, measured: Counts?, outer: OuterState? = nil, contributions: [Contribution] = [], of: RoundOutcome? = nil)
        /// This peer's answer prevents the aggregation of the round.
        case aggregationFailed(peerId: String, reason: String)
        /// Without this peer's answer the round's model is clearly better.
        case harmful(peerId: String, reason: String)
        /// The model file is stored. `evaluation` is the detailed measurement, where it was possible.
        case concluded(model: ObjectReference, metrics: Metrics, evaluation: Evaluation?, version: Int? = nil)
        case cancelled
        case failed(String)
        case tick
    }

    public struct Rules: Sendable {
        /// Seconds in which a peer must answer ENABLE before the round begins without it.
        public var enableWait: Double
        /// Seconds to wait for other peers when fewer than `min_peers` are available.
        public var peerWait: Double
        /// The minimum time, in seconds, that a round leaves to peers that have not answered.
        public var roundGrace: Double
        /// The minimum time without progress, in seconds, after which a peer is skipped.
        public var progressWait: Double
        /// The maximum training time of a session, in seconds: then it ends with the best weights so far.
        public var maxRunTime: Double

        public init(
            enableWait: Double = 30, peerWait: Double = 60, roundGrace: Double = 5, progressWait: Double = 60,
            maxRunTime: Double = .infinity
        ) {
            self.maxRunTime = maxRunTime
            self.enableWait = enableWait
            self.peerWait = peerWait
            self.roundGrace = roundGrace
            self.progressWait = progressWait
        }
    }

    public internal(set) var session: Session
    let strategy: any Strategy
    let rules: Rules
    var phase: Phase
    var roster: Roster
    /// The round times so far.
    var deadline: RoundDeadline
    /// Since when more peers than are available are waited for, in monotonic seconds.
    var waitingSince: Double?
    var evaluationTries = 0
    /// The best checkpoint when old ones were last discarded.
    var outdatedBest: String?
    /// The last closed round in full, as its receipt needs it; the document has a short form.
    var closedRound: RoundSummary?
    /// The document differs from the stored one.
    public internal(set) var isChanged = false
    /// The document differs in more than progress: it must be stored before the actions are executed.
    public internal(set) var mustStore = false

    public init(_ session: Session, strategy: any Strategy, rules: Rules) {
        self.session = session
        self.strategy = strategy
        self.rules = rules
        phase = Phase(session)
        roster = Roster(session.peers, progressWait: rules.progressWait)
        deadline = RoundDeadline(minGrace: rules.roundGrace)
    }

    /// Takes over the document as stored, with the store's revision, lease and generation.
    public mutating func stored(_ session: Session) {
        if session.peers.count != self.session.peers.count { roster.update(session.peers) }
        self.session = session
        isChanged = false
        mustStore = false
    }

    /// Handles one event and everything that is due after it.
    public mutating func handle(_ event: Event, now: Moment) -> SessionActions {
        var actions = apply(event, now: now)
        advance(&actions, now: now)
        return actions
    }

    /// Restores the last closed round from the recorded ones.
    public mutating func restore(_ round: RoundSummary?) {
        if round?.round == session.lastRound?.round { closedRound = round }
    }

    /// Applies one event without what follows from it, in constant time for a peer's events: thousands of events may be applied before one call of
    /// ``advance(_:now:)``.
    public mutating func apply(_ event: Event, now: Moment) -> SessionActions {
        var turn = Turn(at: now)
        if !session.status.isFinal { apply(event, in: &turn) }
        return turn.actions
    }

    private mutating func apply(_ event: Event, in turn: inout Turn) {
        switch event {
        case .prepared(let dataset, let model, let weights): prepared(dataset: dataset, model: model, weights: weights, in: &turn)
        case .resumed: resumed(in: &turn)
        case .recovered: recovered(in: &turn)
        case .enabled(let event): enabled(event, in: &turn)
        case .ready(let event): ready(event, in: &turn)
        case .progress(let event): progress(event, in: &turn)
        case .heartbeat(let event): heartbeat(event, in: &turn)
        case .done(let event, let norm, let streamNorms, let measured):
            done(event, norm: norm, streamNorms: streamNorms, measured: measured, in: &turn)
        case .refused(let event, let reason): refused(event, reason: reason, in: &turn)
        case .error(let event): error(event, in: &turn)
        case .peerLost(let id, let reason): lost(id, reason: reason, phrase: "is lost (\(reason))", in: &turn)
        case .peerLeft(let id): lost(id, reason: "it left", phrase: "has left", in: &turn)
        case .peerRegistered(let peer): registered(peer, in: &turn)
        case .joined(let peer): joined(peer, in: &turn)
        case .notNeeded(let peer): notNeeded(peer, in: &turn)
        case .aggregated(let weights, let measured, let outer, let contributions, let outcome):
            let old = session.outer?.slots
            aggregated(weights: weights, measured: measured, outer: outer, contributions: contributions, outcome: outcome, in: &turn)
            if let old, session.outer == outer, old.key != outer?.slots?.key { turn.discard([old.key]) }
        case .aggregationFailed(let id, let reason): aggregationFailed(peerId: id, reason: reason, in: &turn)
        case .harmful(let id, let reason): harmful(peerId: id, reason: reason, in: &turn)
        case .concluded(let object, let metrics, let evaluation, let version):
            session.modelVersion = version
            concluded(model: object, metrics: metrics, evaluation: evaluation, in: &turn)
        case .cancelled: end(.cancelled, in: &turn)
        case .failed(let reason): end(.failed, reason: reason, in: &turn)
        case .tick: break
        }
    }

    /// Begins, closes and ends what is due after the applied events, and adds the session's progress to the notices. Linear in the number of peers.
    public mutating func advance(_ actions: inout SessionActions, now: Moment) {
        if !session.status.isFinal {
            var turn = Turn(at: now)
            advanceRounds(in: &turn)
            actions += turn.actions
        }
        guard actions.notices.contains(where: { $0.progress == nil }) else { return }
        let progress = session.progress
        for index in actions.notices.indices where actions.notices[index].progress == nil { actions.notices[index].progress = progress }
    }

    // MARK: For the coordinator

    /// Each peer trains and measures a separate model.
    public var hasOwnModels: Bool { strategy.trainsOwnModels }

    /// A round closes while other peers still train.
    public var isBuffered: Bool { strategy.bufferSize(session.settings, peers: 1) != nil }

    /// All rounds are closed: the peers measure the model on the held-out rows.
    public var isEvaluation: Bool { session.round >= session.settings.rounds }

    /// A peer's place in the session.
    public func place(of peerId: String) -> SessionPeer? { index(peerId).map { session.peers[$0] } }

    /// The lease was renewed: a user may have cancelled the session since.
    public mutating func renewed(_ lease: HeldLease) { session.cancelRequested = lease.cancelRequested }

    /// Seconds after which a peer must answer with what it has, so that a slow peer does not delay the others, nor a session its peers; nil where there is
    /// no limit.
    public func timeLimit(at now: Moment) -> Double? {
        var limit: Double?
        if strategy.leavesOutLate, session.round > 0, let median = deadline.median { limit = max(rules.roundGrace, 2 * median) }
        guard rules.maxRunTime < .infinity, !isEvaluation else { return limit }
        return min(limit ?? .infinity, max(rules.maxRunTime - runTime(at: now), rules.roundGrace))
    }

    /// Seconds within which a peer must report progress: half of what it is allowed, for slow networks.
    public var progressWithin: Double { max(rules.progressWait / 2, 0.5) }

    /// Seconds since training began, by the document's clock, which all coordinators share.
    func runTime(at now: Moment) -> Double { session.startedAt.map { now.date.timeIntervalSince($0) } ?? 0 }

    func index(_ peerId: String) -> Int? { roster.index(of: peerId) }

    // MARK: The document

    /// The urgency of storing a change of the document.
    enum Change {
        /// Stored with the next urgent change, or after a while.
        case progress
        /// Before anything else is done.
        case decision
    }

    mutating func change(_ change: Change) {
        isChanged = true
        if change == .decision { mustStore = true }
    }

    mutating func newAttempt() -> Int {
        defer { session.attempts = (session.attempts ?? 0) + 1 }
        return session.attempts ?? 0
    }

    // MARK: Notices

    mutating func notify(_ kind: SessionNotice.Kind, _ message: String, in turn: inout Turn, peer: SessionPeer? = nil) {
        notify(SessionNotice(sessionId: session.id, kind: kind, time: turn.now.date, message: message), in: &turn, peer: peer)
    }

    mutating func notify(_ notice: SessionNotice, in turn: inout Turn, peer: SessionPeer? = nil) {
        var notice = notice
        notice.status = session.status
        notice.round = notice.round ?? session.round
        notice.rounds = session.settings.rounds
        notice.epochs =
            session.settings.localSteps == nil ? session.settings.epochs : peer.map { session.settings.hyperparameters(of: $0).epochs }
        notice.peerId = peer?.id
        notice.peerName = peer?.name
        turn.publish(notice)
        guard notice.kind != .epoch, notice.kind != .round else { return }
        var events = session.events ?? []
        events.append(SessionEvent(notice))
        session.events = events.suffix(SessionEvent.max)
        change(.progress)
    }
}
