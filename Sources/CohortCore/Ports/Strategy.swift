/// How peers' work becomes one model: pure decisions, no I/O.
public protocol Strategy: Sendable {
    static var name: String { get }

    /// One sentence for people choosing.
    static var summary: String { get }

    /// Names of the settings in ``SessionSetting/ofStrategies`` that it reads; another strategy's are refused.
    var settings: Set<String> { get }

    /// Answers that a round needs, at least: fewer peers are no session by it, and a round with fewer answers begins anew.
    func answersNeeded(_ settings: SessionSettings) -> Int

    /// How many rounds the settings mean for this strategy.
    func roundCount(_ settings: SessionSettings) -> Int

    /// Which training rows each of `peers` (in this order, with speed > 0) gets, as positions in the permutation of `trainingRows`.
    /// A share may be empty.
    func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]]

    /// Answers that close a round, whoever else still trains: its answer counts in the round in which it comes, as ``StrategyAnswer/staleness`` says.
    /// nil: a round has all answers but those that are late.
    /// - Parameter peers: that are alive.
    func bufferSize(_ settings: SessionSettings, peers: Int) -> Int?

    /// What to do with the answers when a round has closed.
    func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome

    /// What each peer's round is, beside the settings.
    func recipe(_ settings: SessionSettings) -> WorkRecipe

    /// What the server makes of the round's mean; nil: the mean is the new model.
    func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer?

    /// The only optimizer that peers may train with, but for its numbers; nil: any.
    var optimizer: OptimizerSpec? { get }

    /// What becomes of the optimizer's memory on the peers unless the settings say it; nil: as it fits the model. Of one that says ``OptimizerMemory/keep``
    /// nothing is ever averaged.
    var optimizerMemory: OptimizerMemory? { get }

    /// What a person should know of these settings.
    func notes(_ settings: SessionSettings) -> [String]

    /// Each peer trains a model of its own on all rows, which is measured by itself; else all work on one model.
    var trainsOwnModels: Bool { get }

    /// Whether a round closes without answers that are late, once most are in.
    var leavesOutLate: Bool { get }

    /// Whether an update much longer than the others is shortened, or refused by `max_norm_ratio`.
    var comparesNorms: Bool { get }

    /// Whether shares go by speed, so that all finish at one time: then what the answers show corrects the speeds.
    var dealsBySpeed: Bool { get }
}

extension Strategy {
    public var settings: Set<String> { [] }
    public func answersNeeded(_ settings: SessionSettings) -> Int { 1 }
    public func roundCount(_ settings: SessionSettings) -> Int { settings.rounds }
    public func bufferSize(_ settings: SessionSettings, peers: Int) -> Int? { nil }
    public func recipe(_ settings: SessionSettings) -> WorkRecipe { WorkRecipe(proximalMu: settings.proximalMu) }
    public func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer? { nil }
    public var optimizer: OptimizerSpec? { nil }
    public var optimizerMemory: OptimizerMemory? { nil }
    public func notes(_ settings: SessionSettings) -> [String] { [] }
    public var trainsOwnModels: Bool { false }
    public var leavesOutLate: Bool { !trainsOwnModels }
    public var comparesNorms: Bool { !trainsOwnModels }
    public var dealsBySpeed: Bool { !trainsOwnModels }

    public var name: String { Self.name }
    public var summary: String { Self.summary }

    /// - Throws: ``CohortError`` `invalid` for settings with which it cannot work, and for those of other strategies.
    public func check(_ settings: SessionSettings) throws {
        for setting in SessionSetting.all
        where SessionSetting.ofStrategies.contains(setting.name) && !self.settings.contains(setting.name) {
            guard let text = try setting.text(of: settings) else { continue }
            throw CohortError(.invalid, "\(setting.name) is \(text); it must be absent with \(name), which does not use it")
        }
        if let optimizer, settings.optimizer.name != optimizer.name || settings.optimizer.momentum != optimizer.momentum {
            let given = settings.optimizer
            throw CohortError(
                .invalid,
                "optimizer is \(given.name.rawValue)\(given.momentum > 0 ? " with momentum \(given.momentum)" : ""); it must be \(optimizer.name.rawValue)\(optimizer.momentum > 0 ? "" : " without momentum") with \(name)"
            )
        }
        if recipe(settings).controlVariates, let proximalMu = settings.proximalMu {
            throw CohortError(
                .invalid,
                "proximal_mu is \(proximalMu); it must be absent with \(name), which would take the pull for a part of the gradient")
        }
        if let size = settings.bufferSize, size > settings.peers {
            throw CohortError(.invalid, "buffer_size is \(size); it must be from 1 to peers, which is \(settings.peers)")
        }
        let needed = answersNeeded(settings)
        guard settings.peers >= needed else {
            throw CohortError(
                .invalid,
                "peers is \(settings.peers); it must be at least \(needed) with \(name)"
                    + (settings.maliciousPeers.map { " and malicious_peers \($0)" } ?? ""))
        }
    }
}

/// What a strategy asks of a peer in a round: data, that TRAIN carries, so that a peer in any language can follow.
public struct WorkRecipe: Hashable, Sendable {
    /// The peer measures its own model on the validation rows after training.
    public var evaluatesOwn: Bool
    /// Epochs without a better validation loss before it stops; nil: it does not.
    public var earlyStopping: Int?
    /// μ: each step pulls the weights toward those that the round began with, w −= lr·μ·(w − w₀); nil: none does.
    public var proximalMu: Double?
    /// Each step is corrected by the difference of all peers' mean gradient and the peer's own, which travel as ``WeightsLayout/controlVariate``.
    public var controlVariates = false
    /// The update is the change of the weights that the peer began with, compressed or not: it can be added to others.
    public var sendsChange = false

    public init(
        evaluatesOwn: Bool = false, earlyStopping: Int? = nil, proximalMu: Double? = nil, controlVariates: Bool = false,
        sendsChange: Bool = false
    ) {
        self.controlVariates = controlVariates
        self.sendsChange = sendsChange
        self.evaluatesOwn = evaluatesOwn
        self.earlyStopping = earlyStopping
        self.proximalMu = proximalMu
    }
}

/// An accepted answer, as a strategy sees it.
public struct StrategyAnswer: Hashable, Sendable {
    public var peerId: String
    /// Rows trained on, each as often as there were epochs.
    public var samples: Int
    /// Steps of the optimizer.
    public var steps: Int
    /// Rounds that closed since the one whose weights it began with.
    public var staleness: Int
    /// Of the peer's own model on all validation rows, where ``Strategy/trainsOwnModels``.
    public var ownEvaluation: Counts?

    public init(peerId: String, samples: Int, steps: Int = 0, staleness: Int = 0, ownEvaluation: Counts? = nil) {
        self.staleness = staleness
        self.peerId = peerId
        self.samples = samples
        self.steps = steps
        self.ownEvaluation = ownEvaluation
    }
}

/// A peer's part in a round.
public struct Share: Codable, Hashable, Sendable {
    public var peerId: String
    /// Of the mean; all weights sum to 1.
    public var weight: Double
    /// 0 … 1: how much of its step from the round's weights is taken.
    public var scale: Double
    /// The factor of each of its streams that is not taken as it was sent, by the stream's name: 0 discards it.
    public var streamScales: [String: Double]?

    public init(peerId: String, weight: Double, scale: Double = 1) {
        self.peerId = peerId
        self.weight = weight
        self.scale = scale
    }
}

/// By what weight an answer counts in a mean.
public enum Weighting: String, Codable, Sendable, CaseIterable {
    /// By the rows that it was trained on, each as often as it was seen.
    case samples
    /// All alike.
    case uniform
    /// By the optimizer's steps.
    case steps
}

/// How the changes of several peers become one.
public enum AggregationRule: Codable, Hashable, Sendable {
    /// By the shares' weights.
    case mean
    /// Each parameter by itself: the middle one; of an even number the mean of the two in the middle.
    case median
    /// Each parameter by itself: the mean without so many of the largest and so many of the smallest.
    case trimmedMean(Int)
    /// The mean of so many changes with the least sum of squared distances to their n − f − 1 nearest others.
    case krum(malicious: Int, keep: Int)
    /// The point with the least sum of distances to all changes.
    case geometricMedian
    /// From the change of the round before, the mean of the differences to it, each shortened to the median of their lengths.
    case centeredClipping

    /// What the server remembers for it from round to round, a number a parameter of each.
    public var slots: [String] { self == .centeredClipping ? ["center"] : [] }
}

/// What becomes of a round's answers.
public struct RoundOutcome: Codable, Hashable, Sendable {
    public var rule: AggregationRule
    public var shares: [Share]
    /// Before the rule, each change is replaced by the mean of its n − f nearest ones, itself among them; this is f.
    public var mixing: Int?

    public init(_ rule: AggregationRule, _ shares: [Share], mixing: Int? = nil) {
        self.rule = rule
        self.shares = shares
        self.mixing = mixing
    }

    /// The weighted mean of these peers' updates.
    public static func average(_ shares: [Share]) -> RoundOutcome { RoundOutcome(.mean, shares) }

    /// With the other peers' updates alone, whose weights sum to 1 again.
    public func without(_ peerIds: Set<String>) -> RoundOutcome {
        var outcome = self
        outcome.shares.removeAll { peerIds.contains($0.peerId) }
        let sum = outcome.shares.reduce(0) { $0 + $1.weight }
        for index in outcome.shares.indices {
            outcome.shares[index].weight = sum > 0 ? outcome.shares[index].weight / sum : 1 / Double(outcome.shares.count)
        }
        let most = max(0, (outcome.shares.count - 1) / 2)
        switch rule {
        case .trimmedMean(let cut): outcome.rule = .trimmedMean(min(cut, most))
        case .krum(let malicious, let keep): outcome.rule = .krum(malicious: min(malicious, most), keep: min(keep, outcome.shares.count))
        case .mean, .median, .geometricMedian, .centeredClipping: break
        }
        outcome.mixing = mixing.map { min($0, most) }
        return outcome
    }

    /// This peer's model.
    public static func select(peerId: String) -> RoundOutcome { RoundOutcome(.mean, [Share(peerId: peerId, weight: 1)]) }
}

/// What became of a peer's update in a round.
public struct Contribution: Codable, Hashable, Sendable {
    public var peerId: String
    public var peerName: String
    /// Rows trained on, each as often as there were epochs.
    public var samples: Int
    /// Of the update's file.
    public var sha256: String
    /// Where that is kept; nil: it is not.
    public var key: String?
    /// By which its change counts in the new weights; nil where each parameter was made by itself.
    public var weight: Double?
    /// L2, of its change of the round's weights.
    public var norm: Double?
    /// Of the angle between its change and the others' combined; nil where one of them is zero, and of one alone.
    public var cosine: Double?

    public init(
        peerId: String, peerName: String, samples: Int, sha256: String, key: String? = nil, weight: Double? = nil, norm: Double? = nil,
        cosine: Double? = nil
    ) {
        self.peerId = peerId
        self.peerName = peerName
        self.samples = samples
        self.sha256 = sha256
        self.key = key
        self.weight = weight
        self.norm = norm
        self.cosine = cosine
    }
}
