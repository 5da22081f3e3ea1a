public import CohortCore

/// Federated averaging (McMahan et al. 2017): every round each peer trains on its share from the global weights; the new global weights are
/// the mean of the updates, weighted by the samples trained on.
public struct FedAvg: RoundsOfShares {
    public static let name = "fedavg"
    public static let summary = "Each peer trains on its share of the rows; after every round the weights are averaged."

    public init() {}

    public func outcome(of answers: [StrategyAnswer], task: LearningTask) -> RoundOutcome {
        let total = answers.reduce(0) { $0 + $1.samples }
        return .average(
            answers.map { answer in
                Share(peerId: answer.peerId, weight: total > 0 ? Double(answer.samples) / Double(total) : 1 / Double(answers.count))
            })
    }
}
