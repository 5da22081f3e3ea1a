import CohortCore
public import CohortSession

/// Federated averaging with a proximal term (Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv 1812.06127): peers whose
/// rows differ, or that train for many epochs, are held near the weights that the round began with.
///
/// The pull is decoupled from the optimizer, as AdamW's weight decay is: after each step w −= lr·μ·(w − w₀). Within the gradient, as the paper has it
/// for SGD, Adam would divide it by the gradient's own size; for SGD without momentum both are the same but for terms of lr².
/// μ is ``SessionSettings/proximalMu``, 0.01 by default; the paper tries 0.001, 0.01, 0.1 and 1. Too large, and peers hardly move.
public struct FedProx: RoundsOfShares {
    public static let name = "fedprox"
    public static let title = "Held together"
    public static let purpose = StrategyPurpose.differing
    public static let summary = "As fedavg, and each machine is held near the round's weights: for machines whose rows differ."

    /// The default μ.
    static let standard = 0.01

    public init() {}

    public func recipe(_ settings: SessionSettings) -> WorkRecipe { WorkRecipe(proximalMu: settings.proximalMu ?? Self.standard) }
}
