public import CohortCore
public import CohortSession

/// A strategy that averages as ``FedAvg`` does, and then lets the server's own optimizer make the step.
public protocol RoundsWithOuterStep: RoundsOfShares {}

extension RoundsWithOuterStep {
    public var settings: Set<String> { ["weighting", "server_lr", "server_momentum"] }
}

/// One whose steps adapt to each parameter.
public protocol RoundsWithAdaptiveStep: RoundsWithOuterStep {}

extension RoundsWithAdaptiveStep {
    public var settings: Set<String> { ["weighting", "server_lr", "server_momentum", "server_tau"] }
}

/// Federated averaging with momentum on the server (Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
/// Classification", 2019, arXiv 1909.06335): v ← β·v + Δ, w ← w + η·v. It smooths the changes of rounds with different rows.
///
/// β is ``SessionSettings/serverMomentum``, 0.9 by default; η is ``SessionSettings/serverLr``, 1 − β by default, so that a change that is the same
/// every round is taken once in the end. With η = 1 and β = 0.9, as the paper writes it, steps become ten times as long: with Adam on the
/// peers they overshoot. It starts slowly: of fewer than some 2 / (1 − β) rounds expect less than of `fedavg`.
public struct FedAvgM: RoundsWithOuterStep {
    public static let name = "fedavgm"
    public static let title = "Average with momentum"
    public static let purpose = StrategyPurpose.differing
    public static let summary = "As fedavg, with momentum on the server: smoother where machines' rows differ; wants some tens of rounds."

    public init() {}

    public func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer? {
        let beta = settings.serverMomentum ?? 0.9
        return .momentum(beta: beta, learningRate: settings.serverLr ?? 1 - beta, nesterov: false)
    }
}

/// Adaptive steps on the server (Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv 2003.00295), Algorithm 2 with Adam's rule.
///
/// β₁ is ``SessionSettings/serverMomentum``, 0.9 by default; β₂ is 0.99. The paper tunes η and τ; here η is the root mean square of the first round's
/// change unless ``SessionSettings/serverLr`` says it, so that a parameter's step is about as long as the peers' own, and τ a tenth of that unless
/// ``SessionSettings/serverTau`` says it. Steps do not shrink by themselves as rounds go by: with few parameters, or at the end, they
/// can be too long; a falling learning rate on the peers does not help, as the sizes of changes are divided out.
public struct FedAdam: RoundsWithAdaptiveStep {
    public static let name = "fedadam"
    public static let title = "Server with Adam"
    public static let purpose = StrategyPurpose.differing
    public static let summary =
        "As fedavg, with Adam on the server: each weight's step by how much it has moved before; wants some tens of rounds."

    public init() {}

    public func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer? { .adaptive(.adam, settings) }
}

/// ``FedAdam`` with Yogi's rule, whose second moment grows and shrinks by steps of Δ² alone: one odd round moves it less.
public struct FedYogi: RoundsWithAdaptiveStep {
    public static let name = "fedyogi"
    public static let title = "Server with Yogi"
    public static let purpose = StrategyPurpose.differing
    public static let summary = "As fedadam, by Yogi's rule, which forgets more slowly: for rounds that differ much."

    public init() {}

    public func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer? { .adaptive(.yogi, settings) }
}

/// ``FedAdam`` with Adagrad's rule: squares are summed and never forgotten, so that steps become shorter with every round; β₁ is 0 by default, as in
/// the paper.
public struct FedAdagrad: RoundsWithAdaptiveStep {
    public static let name = "fedadagrad"
    public static let title = "Server with Adagrad"
    public static let purpose = StrategyPurpose.differing
    public static let summary = "As fedadam, by Adagrad's rule: the server's steps become shorter with every round."

    public init() {}

    public func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer? {
        .adaptive(.adagrad, beta1: settings.serverMomentum ?? 0, beta2: 0, learningRate: settings.serverLr, tau: settings.serverTau)
    }
}

/// Many local steps, few rounds (Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023, arXiv 2311.08105):
/// peers train with AdamW, whose moments stay with them, and the server takes their mean change with Nesterov's momentum.
///
/// η is ``SessionSettings/serverLr``, 0.7 by default, β ``SessionSettings/serverMomentum``, 0.9 by default. A steady change is taken η / (1 − β) = 7 times
/// in the end: momentum must have the rounds to build up and settle, and below 30 the session says so.
public struct DiLoCo: RoundsWithOuterStep {
    public static let name = "diloco"
    public static let title = "Many steps a round"
    public static let purpose = StrategyPurpose.slowNetwork
    public static let summary =
        "Many epochs a round, few rounds sent: Nesterov's momentum on the server, moments kept on the machines; wants 30 rounds."

    public init() {}

    public var optimizerMemory: OptimizerMemory? { .keep }

    public func outerOptimizer(_ settings: SessionSettings) -> OuterOptimizer? {
        .momentum(beta: settings.serverMomentum ?? 0.9, learningRate: settings.serverLr ?? 0.7, nesterov: true)
    }

    public func notes(_ settings: SessionSettings) -> [String] {
        settings.rounds >= 30
            ? []
            : [
                "diloco's momentum on the server wants 30 rounds or more; this session has \(settings.rounds), for which fedavg may be better"
            ]
    }
}

extension OuterOptimizer {
    fileprivate static func adaptive(_ rule: AdaptiveRule, _ settings: SessionSettings) -> OuterOptimizer {
        .adaptive(rule, beta1: settings.serverMomentum ?? 0.9, beta2: 0.99, learningRate: settings.serverLr, tau: settings.serverTau)
    }
}
