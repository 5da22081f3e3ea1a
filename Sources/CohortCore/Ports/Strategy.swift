/// How peers' work becomes one model: pure decisions, no I/O.
public protocol Strategy: Sendable {
    static var name: String { get }

    /// One sentence for people choosing.
    static var summary: String { get }

    /// How many rounds the settings mean for this strategy.
    func roundCount(_ settings: SessionSettings) -> Int

    /// Which training rows each of `peers` (in this order, with speed > 0) gets, as positions in the permutation of `trainingRows`.
    /// Throws `invalid` when a batch size is larger than the share it would be drawn from.
    func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]]

    /// What to do with the answers when a round has closed.
    func outcome(of answers: [StrategyAnswer], task: LearningTask) -> RoundOutcome

    /// Whether slow answers may be left out at a deadline, and every peer starts each round from the global weights.
    var synchronous: Bool { get }
}

/// An accepted answer, as a strategy sees it.
public struct StrategyAnswer: Hashable, Sendable {
    public var peerId: String
    public var samples: Int
    /// Of the peer's own model on all validation rows; `independent` only.
    public var ownEvaluation: Counts?

    public init(peerId: String, samples: Int, ownEvaluation: Counts?) {
        self.peerId = peerId
        self.samples = samples
        self.ownEvaluation = ownEvaluation
    }
}

public enum RoundOutcome: Hashable, Sendable {
    /// The global model is the weighted mean of these peers' updates; weights sum to 1.
    case average([(peerId: String, weight: Double)])
    /// The global model is this peer's.
    case select(peerId: String)

    public static func == (a: RoundOutcome, b: RoundOutcome) -> Bool {
        switch (a, b) {
        case (.average(let a), .average(let b)): a.map(\.peerId) == b.map(\.peerId) && a.map(\.weight) == b.map(\.weight)
        case (.select(let a), .select(let b)): a == b
        default: false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch self {
        case .average(let shares): for share in shares { hasher.combine(share.peerId) }
        case .select(let peerId): hasher.combine(peerId)
        }
    }
}
