public import CohortCore

/// Federated averaging with the median of each parameter instead of the mean (Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal
/// Statistical Rates", ICML 2018, arXiv 1803.01498): as long as more than half of the peers are honest, no lie moves a parameter past the honest
/// values. It takes no account of how many rows a peer trained on, and learns more slowly than the mean where peers' rows differ. Of one or
/// two peers it is the mean.
public struct Median: RoundsOfShares {
    public static let name = "median"
    public static let summary = "As fedavg, with each parameter's median: a few machines that send nonsense do no harm."

    public init() {}

    public func outcome(of answers: [StrategyAnswer], task: LearningTask) -> RoundOutcome {
        .columns(.median, answers.map { Share(peerId: $0.peerId, weight: 1 / Double(answers.count)) })
    }
}

extension ColumnRule {
    /// One value a parameter, of as many updates as there are slices.
    /// - Parameters:
    ///   - slices: of the same parameters, at least `count` values each. Their order changes nothing.
    ///   - take: gets the results in order.
    public func reduce(_ slices: [ArraySlice<Float>], count: Int, _ take: (Float) -> Void) {
        guard !slices.isEmpty else { return }
        var values = [Float](repeating: 0, count: slices.count)
        for index in 0..<count {
            for (place, slice) in slices.enumerated() {
                // Sorted as they come: there are seldom more than some tens.
                let value = slice[slice.startIndex + index]
                var free = place
                while free > 0, values[free - 1] > value {
                    values[free] = values[free - 1]
                    free -= 1
                }
                values[free] = value
            }
            switch self {
            case .median:
                let middle = values.count / 2
                take(values.count % 2 == 1 ? values[middle] : Float((Double(values[middle - 1]) + Double(values[middle])) / 2))
            }
        }
    }
}
