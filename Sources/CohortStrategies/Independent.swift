public import CohortCore
public import CohortSession

/// Every peer trains a separate model on all training rows, with the hyperparameters that the settings give it; the model with the lowest
/// validation loss wins.
public struct Independent: Strategy {
    public static let name = "independent"
    public static let title = "Each alone, the best wins"
    public static let purpose = StrategyPurpose.competition
    public static let summary = "Each machine gets all rows and trains a separate model; the best one wins."

    public init() {}

    public var trainsOwnModels: Bool { true }

    public func roundCount(_ settings: SessionSettings) -> Int { 1 }

    public func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
        peers.map { _ in [RowRange(start: 0, end: trainingRows)] }
    }

    public func recipe(_ settings: SessionSettings) -> WorkRecipe {
        WorkRecipe(evaluatesOwn: true, earlyStopping: settings.earlyStopping, proximalMu: settings.proximalMu)
    }

    public func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
        // Without validation rows there is nothing to tell them apart by: the first.
        let best = answers.min { ($0.ownEvaluation?.loss ?? .infinity) < ($1.ownEvaluation?.loss ?? .infinity) }
        return .select(peerId: best?.peerId ?? "")
    }
}
