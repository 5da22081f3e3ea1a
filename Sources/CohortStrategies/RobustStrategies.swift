import CohortCore
public import CohortSession

/// A strategy that some peers may send anything to. How many rows a peer says it trained on does not count.
public protocol RobustRounds: RoundsOfShares {
    /// - Parameters:
    ///   - malicious: f, below half of `answers`.
    ///   - answers: n.
    func rule(malicious: Int, of answers: Int) -> AggregationRule
}

extension RobustRounds {
    public var settings: Set<String> { ["malicious_peers", "nearest_neighbor_mixing"] }

    /// n ≥ 2f + 3; among fewer than five, no liar can be identified.
    public func answersNeeded(_ settings: SessionSettings) -> Int { max(5, 2 * (settings.maliciousPeers ?? 1) + 3) }

    public func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
        let count = answers.count
        let malicious = max(0, min(settings.maliciousPeers ?? (count - 3) / 2, (count - 1) / 2))
        return RoundOutcome(
            rule(malicious: malicious, of: count), Self.shares(of: answers, by: .uniform),
            mixing: settings.nearestNeighborMixing == true ? malicious : nil)
    }
}

/// Federated averaging with the median of each parameter instead of the mean (Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal
/// Statistical Rates", ICML 2018, arXiv 1803.01498): as long as more than half of the peers are honest, no lie moves a parameter past the honest
/// values. It takes no account of how many rows a peer trained on, and learns more slowly than the mean where peers' rows differ. Of one or
/// two peers it is the mean.
public struct Median: RobustRounds {
    public static let name = "median"
    public static let title = "Median"
    public static let purpose = StrategyPurpose.faulty
    public static let summary = "As fedavg, with each parameter's median: a few machines that send nonsense do no harm."

    public init() {}

    public func answersNeeded(_ settings: SessionSettings) -> Int { settings.maliciousPeers.map { 2 * $0 + 1 } ?? 1 }

    public func rule(malicious: Int, of answers: Int) -> AggregationRule { .median }
}

/// Federated averaging where of each parameter the f largest and the f smallest values are left out (Yin et al., as ``Median``): nearer to the mean than the
/// median is, as long as at most f peers lie. Refuses fewer than five peers.
public struct TrimmedMean: RobustRounds {
    public static let name = "trimmed_mean"
    public static let title = "Mean without extremes"
    public static let purpose = StrategyPurpose.faulty
    public static let summary =
        "As fedavg, without each parameter's largest and smallest values: nearer to the mean than median; five machines or more."

    public init() {}

    public func answersNeeded(_ settings: SessionSettings) -> Int { max(5, 2 * (settings.maliciousPeers ?? 1) + 1) }

    public func rule(malicious: Int, of answers: Int) -> AggregationRule { .trimmedMean(malicious) }
}

/// The one update that lies nearest to its n − f − 1 nearest others (Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient
/// Descent", NeurIPS 2017, arXiv 1703.02757; the paper sums the distances to n − f − 2, byzfl as here). It learns from one peer's rows a round: with
/// peers that are honest it is worse than the mean. n ≥ 2f + 3.
public struct Krum: RobustRounds {
    public static let name = "krum"
    public static let title = "The most typical update"
    public static let purpose = StrategyPurpose.faulty
    public static let summary =
        "Each round the one update that lies nearest to most others: for machines that may lie; five machines or more."

    public init() {}

    public func rule(malicious: Int, of answers: Int) -> AggregationRule { .krum(malicious: malicious, keep: 1) }
}

/// The mean of the n − f updates that ``Krum`` ranks first (the same source). n ≥ 2f + 3.
public struct MultiKrum: RobustRounds {
    public static let name = "multi_krum"
    public static let title = "Mean of the typical updates"
    public static let purpose = StrategyPurpose.faulty
    public static let summary = "As krum, with the mean of all updates but the most remote: five machines or more."

    public init() {}

    public func rule(malicious: Int, of answers: Int) -> AggregationRule { .krum(malicious: malicious, keep: answers - malicious) }
}

/// The point with the least sum of distances to all updates (Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning", 2019, arXiv
/// 1912.13445), by Weiszfeld's iteration on their Gram matrix until it moves no more. It stands up to half of the peers, and unlike ``Median`` keeps a
/// direction that most share.
public struct GeometricMedian: RobustRounds {
    public static let name = "geometric_median"
    public static let title = "Geometric median"
    public static let purpose = StrategyPurpose.faulty
    public static let summary = "The point nearest to all updates together: for machines that may lie; keeps what most agree on."

    public init() {}

    public func answersNeeded(_ settings: SessionSettings) -> Int { max(3, 2 * (settings.maliciousPeers ?? 1) + 1) }

    public func rule(malicious: Int, of answers: Int) -> AggregationRule { .geometricMedian }
}

/// The change of the previous round plus the mean of all differences to it, none longer than their median (Karimireddy, He and Jaggi, "Learning from
/// History for Byzantine Robust Optimization", ICML 2021, arXiv 2012.10333; one iteration, τ the median length). What a liar can do in a round is
/// bounded, and it must keep at it; the first round, which has no history, is bounded least.
public struct CenteredClipping: RobustRounds {
    public static let name = "centered_clipping"
    public static let title = "Shortened updates"
    public static let purpose = StrategyPurpose.faulty
    public static let summary = "Each update's difference to the last round's change, shortened to the median: for machines that may lie."

    public init() {}

    public func answersNeeded(_ settings: SessionSettings) -> Int { max(3, 2 * (settings.maliciousPeers ?? 1) + 1) }

    public func rule(malicious: Int, of answers: Int) -> AggregationRule { .centeredClipping }
}
