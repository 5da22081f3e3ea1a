public import CohortCore
public import CohortSession
public import CohortStrategies

/// ``FedAvg``, but an answer counts by the square root of the rows that it was trained on: a machine with four times the rows counts twice.
public struct SquareRoot: RoundsOfShares {
    public static let name = "square_root"
    public static let summary = "As fedavg, and each machine counts by the square root of its rows."

    public init() {}

    public var settings: Set<String> { [] }

    public func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
        let roots = answers.map { Double(max(0, $0.samples)).squareRoot() }
        let sum = roots.reduce(0, +)
        return .average(
            zip(answers, roots).map { Share(peerId: $0.peerId, weight: sum > 0 ? $1 / sum : 1 / Double(answers.count)) })
    }
}
