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
        Sharding.proportional(trainingRows, weights: peers.map(\.speed)).map { $0.count > 0 ? [$0] : [] }
    }

    public func outcome(of answers: [StrategyAnswer], task: LearningTask) -> RoundOutcome {
        let total = answers.reduce(0) { $0 + $1.samples }
        return .average(answers.map { ($0.peerId, total > 0 ? Double($0.samples) / Double(total) : 1 / Double(answers.count)) })
    }
}
