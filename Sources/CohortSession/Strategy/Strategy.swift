public import CohortCore

/// Decides how the peers' work becomes one model, without I/O.
public protocol Strategy: Sendable {
    static var name: String { get }

    /// A few words for lists; default: the name.
    static var title: String { get }

    /// When to choose it; default: ``StrategyPurpose/other``.
    static var purpose: StrategyPurpose { get }

    /// One sentence for people choosing.
    static var summary: String { get }

    /// Names of the settings in ``SessionSetting/ofStrategies`` that it reads; another strategy's are refused.
    var settings: Set<String> { get }

    /// The minimum number of answers of a round: a session needs as many peers, and a round with fewer answers starts again.
    func answersNeeded(_ settings: SessionSettings) -> Int

    /// The number of rounds of a session with these settings.
    func roundCount(_ settings: SessionSettings) -> Int

    /// Which training rows each of `peers` (in this order, with speed > 0) gets, as positions in the permutation of `trainingRows`.
    /// A share may be empty.
    func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]]

    /// The number of answers that close a round while others still train: those count in the round in which they arrive (``StrategyAnswer/staleness``).
    /// nil: a round waits for all answers that are not late.
    /// - Parameter peers: that are alive.
    func bufferSize(_ settings: SessionSettings, peers: Int) -> Int?

    /// The aggregation of a closed round's answers.
    func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome

    /// The strategy's part of a peer's work, beside the settings.
    func recipe(_ settings: SessionSettings) -> WorkRecipe

    /// The server's optimizer; nil: the mean is the new model.
    func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer?

    /// The only optimizer that peers may train with, but for its numbers; nil: any.
    var optimizer: OptimizerSpec? { get }

    /// The default of the optimizer's memory on the peers; nil: by the model's size. With ``OptimizerMemory/keep`` nothing is ever averaged.
    var optimizerMemory: OptimizerMemory? { get }

    /// Notes about these settings for the user.
    func notes(_ settings: SessionSettings) -> [String]

    /// Each peer trains and measures a separate model on all rows; else all train one model.
    var trainsOwnModels: Bool { get }

    /// A round closes without late answers, once most have arrived.
    var leavesOutLate: Bool { get }

    /// An update that is much longer than the others is clipped, or refused by `max_norm_ratio`.
    var comparesNorms: Bool { get }

    /// Shares are proportional to speed, so that all peers finish together; the answers then correct the speeds.
    var dealsBySpeed: Bool { get }
}

/// What a strategy is for, in the order in which people choose.
public enum StrategyPurpose: String, Sendable, CaseIterable {
    case usual = "Usual"
    case faulty = "Some machines may be faulty"
    case slowNetwork = "Slow network"
    case unequalSpeed = "Machines of very different speed"
    case differing = "Machines with different rows"
    case competition = "Competition"
    case other = "Others"
}

extension Strategy {
    public static var title: String { name }
    public static var purpose: StrategyPurpose { .other }
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
    public var title: String { Self.title }
    public var purpose: StrategyPurpose { Self.purpose }

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

/// A strategy's part of TRAIN: plain data, so that peers in any language can follow it.
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
    /// The metrics of the peer's own model on all validation rows, where ``Strategy/trainsOwnModels``.
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
    /// The weight in the mean; all weights sum to 1.
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

/// The weight of an answer in a mean.
public enum Weighting: String, Codable, Sendable, CaseIterable {
    /// The number of rows trained on, each as often as it was seen.
    case samples
    /// All alike.
    case uniform
    /// The number of optimizer steps.
    case steps
}

/// The rule by which the changes of several peers become one.
public enum AggregationRule: Codable, Hashable, Sendable {
    /// The mean with the shares' weights.
    case mean
    /// Each parameter by itself: the middle one; of an even number the mean of the two in the middle.
    case median
    /// Each parameter by itself: the mean without so many of the largest and so many of the smallest.
    case trimmedMean(Int)
    /// The mean of so many changes with the least sum of squared distances to their n − f − 1 nearest others.
    case krum(malicious: Int, keep: Int)
    /// The point with the least sum of distances to all changes.
    case geometricMedian
    /// The previous round's change plus the mean of the differences from it, each clipped to the median of their norms.
    case centeredClipping

    /// The state that the server keeps for it from round to round, one number per parameter each.
    public var slots: [String] { self == .centeredClipping ? ["center"] : [] }
}

/// The aggregation of a round's answers.
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

    /// The outcome without these peers; the other weights sum to 1 again.
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

/// A peer's update in a round.
public struct Contribution: Codable, Hashable, Sendable {
    public var peerId: String
    public var peerName: String
    /// Rows trained on, each as often as there were epochs.
    public var samples: Int
    /// The SHA-256 of the update's file.
    public var sha256: String
    /// The key of the kept file; nil: it is not kept.
    public var key: String?
    /// The weight of its change in the new weights; nil for rules that aggregate each parameter separately.
    public var weight: Double?
    /// The L2 norm of its change.
    public var norm: Double?
    /// The cosine between its change and the others' combined change; nil where one of them is zero or missing.
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
