/// The state of a running session.
enum Phase: Hashable, Sendable {
    /// No round is open. The next one begins when enough peers are ready.
    case betweenRounds
    /// The document of another process has an open round: nothing happens before `resumed` or `recovered`.
    case interrupted
    /// The round's work is assigned and answers are awaited; `since` is when it was assigned, in monotonic seconds.
    case collecting(since: Double)
    /// The round's answers are being aggregated.
    case aggregating(since: Double)
    /// The model file is being written.
    case concluding

    init(_ session: Session) { self = session.roundStartedAt == nil ? .betweenRounds : .interrupted }

    /// When the open round's work was assigned.
    var roundBeganAt: Double? {
        switch self {
        case .collecting(let since), .aggregating(let since): since
        case .betweenRounds, .interrupted, .concluding: nil
        }
    }

    /// An object is being made: nothing else begins before it is reported.
    var isBusy: Bool {
        switch self {
        case .aggregating, .concluding: true
        case .betweenRounds, .interrupted, .collecting: false
        }
    }
}
