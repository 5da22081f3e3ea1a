public import CohortSession

/// Federated averaging (McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv 1602.05629):
/// every round each peer trains on its share from the global weights; the new global weights are the mean of the updates, weighted by the
/// samples trained on, or as ``SessionSettings/weighting`` says.
public struct FedAvg: RoundsOfShares {
    public static let name = "fedavg"
    public static let title = "Average (usual)"
    public static let purpose = StrategyPurpose.usual
    public static let summary = "Each machine trains on its share of the rows; after every round the weights are averaged."

    public init() {}
}
