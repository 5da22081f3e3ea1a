/// How peers' work becomes one model: pure decisions, no I/O.
public protocol Strategy: Sendable {
    static var name: String { get }

    /// One sentence for people choosing.
    static var summary: String { get }

    /// How many rounds the settings mean for this strategy.
    func roundCount(_ settings: SessionSettings) -> Int

    /// Which training rows each of `peers` (in this order, with speed > 0) gets, as positions in the permutation of `trainingRows`.
    /// A share may be empty.
    func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]]

    /// What to do with the answers when a round has closed.
    func outcome(of answers: [StrategyAnswer], task: LearningTask) -> RoundOutcome

    /// What each peer's round is, beside the settings.
    func recipe(_ settings: SessionSettings) -> WorkRecipe

    /// Whether slow answers may be left out at a deadline, and every peer starts each round from the global weights.
    var synchronous: Bool { get }
}

extension Strategy {
    public func recipe(_ settings: SessionSettings) -> WorkRecipe { WorkRecipe(proximalMu: settings.proximalMu) }
}

/// What a strategy asks of a peer in a round: data, that TRAIN carries, so that a peer in any language can follow.
public struct WorkRecipe: Hashable, Sendable {
    /// The peer measures its own model on the validation rows after training.
    public var evaluatesOwn: Bool
    /// Epochs without a better validation loss before it stops; nil: it does not.
    public var earlyStopping: Int?
    /// μ: each step pulls the weights toward those that the round began with, w −= lr·μ·(w − w₀); nil: none does.
    public var proximalMu: Double?

    public init(evaluatesOwn: Bool = false, earlyStopping: Int? = nil, proximalMu: Double? = nil) {
        self.evaluatesOwn = evaluatesOwn
        self.earlyStopping = earlyStopping
        self.proximalMu = proximalMu
    }
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

/// A peer's part in the mean.
public struct Share: Hashable, Sendable {
    public var peerId: String
    /// Of the mean; all weights sum to 1.
    public var weight: Double
    /// 0 … 1: how much of its step from the round's weights is taken.
    public var scale: Double

    public init(peerId: String, weight: Double, scale: Double = 1) {
        self.peerId = peerId
        self.weight = weight
        self.scale = scale
    }
}

/// How one parameter's values become one.
public enum ColumnRule: String, Hashable, Sendable {
    /// The middle one; of an even number the mean of the two in the middle.
    case median
}

public enum RoundOutcome: Hashable, Sendable {
    /// The global model is the weighted mean of these peers' updates.
    case average([Share])
    /// Each parameter of the global model is made by itself of that parameter in these peers' updates; their weights do not count.
    case columns(ColumnRule, [Share])
    /// The global model is this peer's.
    case select(peerId: String)
}
