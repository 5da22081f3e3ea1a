import CohortCore
import CohortSession
import CohortStrategies

extension Aggregator {
    /// Combines slices of a round's updates by its rule: each parameter separately, or as a weighted sum of whole changes.
    struct SliceCombiner {
        private let round: Round
        private let mixture: Mixture
        private var columns: ColumnReducer?
        private var sum: SliceSum
        /// The changes after mixing and scaling, one slice of each update; empty where each is taken as it is.
        private var mixed: [Float]
        private let mixesRows: Bool
        /// The sum of the weights that a mean of streams is divided by.
        private let inner: Double
        /// The weights that the round began with have the streams as well.
        private let hasStart: Bool

        /// The weight of each update's change as it was sent.
        let weights: [Double]
        /// The updates that are read: one that does not count is not read again.
        let read: [Int]
        /// The previous round's change counts too.
        let usesCenter: Bool
        /// Each parameter is combined separately.
        var isByColumn: Bool { columns != nil }

        /// - Parameter width: the maximum number of values of a slice.
        init(_ round: Round, _ mixture: Mixture, width: Int) {
            self.round = round
            self.mixture = mixture
            let count = round.shares.count
            let columns = ColumnReducer(round.outcome.rule, count: count)
            self.columns = columns
            var weights = mixture.combination.weights
            if columns == nil {
                if let mixing = mixture.mixing {
                    weights = (0..<count).map { column in
                        (0..<count).reduce(0) { $0 + mixture.combination.weights[$1] * mixing[$1][column] }
                    }
                }
                weights = zip(weights, round.shares).map { $0 * $1.scale }
            }
            self.weights = weights
            read = (0..<count).filter { columns != nil || weights[$0] != 0 || mixture.gram == nil }
            usesCenter = round.hasCenter && mixture.combination.center != 0
            let largest = min(width, round.layout.count)
            sum = SliceSum(most: largest)
            mixesRows = mixture.mixing != nil || round.shares.contains { $0.scale != 1 }
            mixed = [Float](repeating: 0, count: columns != nil && mixesRows ? count * largest : 0)
            // Streams are no changes: optimizer state is averaged as it is, without the round's own where the rule combines.
            hasStart = round.sharedCount == round.layout.count
            inner = round.outcome.rule.combines || !hasStart ? weights.reduce(0, +) : 1
        }

        /// - Parameters:
        ///   - walk: stands at the slice; its first row is that of the round's weights.
        ///   - position: of the slice in the layout's vector.
        ///   - result: as long as the slice.
        mutating func combine(_ walk: UpdateWalk, at position: Int, into result: UnsafeMutableBufferPointer<Float>) {
            let region = StreamRegion(round, at: position, rows: read, weights: weights)
            for (row, scale) in zip(read.indices, region.scales) where scale != 1 { walk.scale(row + 1, by: scale) }
            let start = walk.row(0)
            let rows = read.indices.map { walk.row($0 + 1) }
            if columns == nil {
                let isTrained = position < round.trainedCount
                let scale = isTrained || inner <= 0 ? 1 : 1 / inner
                mix(rows, by: region.weights.map { $0 * scale }, start: start)
                if isTrained, usesCenter { sum.add(walk.row(read.count + 1), weight: mixture.combination.center) }
                sum.store(in: result)
            } else if mixesRows {
                reduceMixed(rows, start: start, scales: position < round.modelCount || hasStart, into: result)
            } else {
                columns?.reduce(rows, into: result)
            }
        }

        private mutating func reduceMixed(
            _ rows: [UnsafeBufferPointer<Float>], start: UnsafeBufferPointer<Float>, scales: Bool,
            into result: UnsafeMutableBufferPointer<Float>
        ) {
            let (count, width) = (round.shares.count, result.count)
            for index in 0..<count {
                var row = mixture.mixing?[index] ?? (0..<count).map { $0 == index ? 1 : 0 }
                if scales { row = zip(row, round.shares).map { $0 * $1.scale } }
                mix(rows, by: row, start: start)
                mixed.withUnsafeMutableBufferPointer { mixed in
                    sum.store(in: UnsafeMutableBufferPointer(rebasing: mixed[(index * width)..<((index + 1) * width)]))
                }
            }
            mixed.withUnsafeBufferPointer { mixed in
                columns?.reduce(
                    (0..<count).map { UnsafeBufferPointer(rebasing: mixed[($0 * width)..<(($0 + 1) * width)]) }, into: result)
            }
        }

        /// Sets `sum` to start + Σ weight · (row − start).
        private mutating func mix(
            _ rows: [UnsafeBufferPointer<Float>], by weights: [Double], start: UnsafeBufferPointer<Float>
        ) {
            sum.begin(start.count)
            let rest = 1 - weights.reduce(0, +)
            // Weights that sum to 1 but for rounding leave nothing of it.
            if abs(rest) > 1e-12 { sum.add(start, weight: rest) }
            for (row, weight) in zip(rows, weights) where weight != 0 { sum.add(row, weight: weight) }
        }
    }
}
