public import CohortCore
public import CohortSession

/// Stochastic controlled averaging (Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, arXiv
/// 1910.06378): a peer that trains for many steps on rows unlike the others' drifts toward its own optimum; here each step takes the difference
/// out, y −= lr·(g − cᵢ + c), where the control variate cᵢ is the mean gradient of the peer's own steps of the last round that counted, and c
/// the mean of all peers' by the weights of the round (the paper's option II).
///
/// An update has cᵢ beside the weights, so it is twice as large; c goes down the same way and is part of the checkpoint. Each peer keeps its own
/// cᵢ in its data folder, over restarts; one that is new, or has lost it, begins with cᵢ = c, that is without a correction. The paper's c keeps what
/// peers sent that were not asked this round; here it is the mean of those that answered.
///
/// Plain SGD only: the variate is a gradient, which is what a step of plain SGD subtracts. After Adam or momentum, the change of the weights says
/// nothing of gradients. With ``SessionSettings/proximalMu`` the pull would be taken for gradient: it is refused. Where all machines have rows of
/// one kind, and rounds are short, it gains nothing over fedavg with SGD and sends twice as much.
public struct Scaffold: RoundsOfShares {
    public static let name = "scaffold"
    public static let title = "Corrected for drift"
    public static let purpose = StrategyPurpose.differing
    public static let summary =
        "As fedavg by plain SGD, and each step is corrected by how the machine's gradients differ from all machines': for many steps a round."

    public init() {}

    public var optimizer: OptimizerSpec? { OptimizerSpec(name: .sgd) }

    public func recipe(_ settings: SessionSettings) -> WorkRecipe { WorkRecipe(controlVariates: true) }

    public func notes(_ settings: SessionSettings) -> [String] {
        settings.lr < 0.01
            ? ["lr is \(settings.lr), which is low for plain SGD: rates from 0.01 to 0.3 are usual"] : []
    }
}
