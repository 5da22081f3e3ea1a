public import CohortCore

/// Federated averaging (McMahan et al. 2017): every round each peer trains on its share from the global weights; the new global weights are
/// the mean of the updates, weighted by the samples trained on.
public struct FedAvg: Strategy {
    public static let name = "fedavg"
    public static let summary = "Each peer trains on its share of the rows; after every round the weights are averaged."

    public init() {}

    public var synchronous: Bool { true }

    public func roundCount(_ settings: SessionSettings) -> Int { settings.rounds }

    public func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
        Sharding.proportional(trainingRows, weights: Self.weights(of: peers)).map { $0.count > 0 ? [$0] : [] }
    }

    /// Speeds, within bounds: a declared speed is a claim until the first answer, and nobody gets more than 8 times the median's share for it.
    static func weights(of peers: [SessionPeer]) -> [Double] {
        let sorted = peers.map(\.speed).sorted()
        guard !sorted.isEmpty else { return [] }
        let median = sorted[sorted.count / 2]
        return peers.map { peer in
            min(max(peer.speed, median / 64), median * (peer.trainedSamples > 0 ? 64 : 8))
        }
    }

    public func outcome(of answers: [StrategyAnswer], task: LearningTask) -> RoundOutcome {
        let total = answers.reduce(0) { $0 + $1.samples }
        return .average(
            answers.map { answer in
                Share(peerId: answer.peerId, weight: total > 0 ? Double(answer.samples) / Double(total) : 1 / Double(answers.count))
            })
    }
}
