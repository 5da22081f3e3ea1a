import CohortCore
public import CohortSession

/// The inner products of changes: all that a rule which combines whole updates must know of them.
public struct Gram: Sendable {
    public let count: Int
    /// [count, count], symmetric.
    private var products: [Double]

    /// - Parameter products: [count, count]; what is above the diagonal is not read.
    public init(count: Int, products: [Double]) {
        self.count = count
        self.products = products
        for row in 0..<count {
            for column in 0..<row { self.products[column * count + row] = products[row * count + column] }
        }
    }

    public subscript(_ row: Int, _ column: Int) -> Double { products[row * count + column] }

    /// Returns the squared norm of the difference of two changes; for nearly equal ones never below 0.
    public func squaredDistance(_ a: Int, _ b: Int) -> Double { max(0, self[a, a] + self[b, b] - 2 * self[a, b]) }

    /// Row `index`'s neighbours among the first `among`, itself first, then the nearest; of equally near ones in their order.
    func nearest(to index: Int, among: Int) -> [Int] {
        (0..<among).map { ($0 == index ? -1 : squaredDistance(index, $0), $0) }.sorted { ($0.0, $0.1) < ($1.0, $1.1) }.map(\.1)
    }

    /// Returns the matrix of the combinations that the rows of `mixing` define.
    public func mixed(_ mixing: [[Double]]) -> Gram {
        let half = mixing.map { row in
            (0..<count).map { column in (0..<count).reduce(0) { row[$1] == 0 ? $0 : $0 + row[$1] * self[$1, column] } }
        }
        var all: [Double] = []
        for row in half {
            for other in mixing { all.append(zip(row, other).reduce(0) { $1.1 == 0 ? $0 : $0 + $1.0 * $1.1 }) }
        }
        return Gram(count: mixing.count, products: all)
    }
}

/// A change that is made of others.
public struct Combination: Hashable, Sendable {
    /// The weight of each change.
    public var weights: [Double]
    /// The weight of the previous round's change.
    public var center: Double

    public init(weights: [Double], center: Double = 0) {
        self.weights = weights
        self.center = center
    }
}

/// Nearest-neighbour mixing (Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", AISTATS 2023, arXiv 2302.01772).
public enum NearestNeighborMixing {
    /// - Parameters:
    ///   - changes: of which the first `count` are mixed; what is behind stays.
    ///   - malicious: f.
    /// - Returns: row by row, how much of each change is in the mean of a change's n − f nearest ones.
    public static func rows(_ changes: Gram, count: Int, malicious: Int) -> [[Double]] {
        let near = max(1, count - malicious)
        return (0..<changes.count).map { index in
            var row = [Double](repeating: 0, count: changes.count)
            guard index < count else {
                row[index] = 1
                return row
            }
            for other in changes.nearest(to: index, among: count).prefix(near) { row[other] = 1 / Double(near) }
            return row
        }
    }
}

extension AggregationRule {
    /// `true` for a rule on whole changes and their ``Gram``; other rules work on each parameter, or on the shares alone.
    public var combines: Bool {
        switch self {
        case .krum, .geometricMedian, .centeredClipping: true
        case .mean, .median, .trimmedMean: false
        }
    }

    /// - Parameters:
    ///   - gram: of the changes in the shares' order; behind them, for centered clipping, the change of the round before, unless there was none.
    ///   - weights: the shares' own, which sum to 1.
    public func combination(_ gram: Gram, weights: [Double]) -> Combination {
        let count = weights.count
        switch self {
        case .mean, .median, .trimmedMean:
            return Combination(weights: weights)
        case .krum(let malicious, let keep):
            let scores = (0..<count).map { index in
                gram.nearest(to: index, among: count).dropFirst().prefix(max(1, count - malicious - 1)).reduce(0) {
                    $0 + gram.squaredDistance(index, $1)
                }
            }
            let best = (0..<count).sorted { (scores[$0], $0) < (scores[$1], $1) }.prefix(max(1, keep))
            var chosen = [Double](repeating: 0, count: count)
            for index in best { chosen[index] = 1 / Double(best.count) }
            return Combination(weights: chosen)
        case .geometricMedian:
            return Combination(weights: Self.geometricMedian(gram, weights))
        case .centeredClipping:
            let center = gram.count > count ? count : nil
            let distances = (0..<count).map { index in
                center.map { gram.squaredDistance(index, $0) } ?? gram[index, index]
            }.map { $0.squareRoot() }
            let sorted = distances.sorted()
            let radius = count % 2 == 1 ? sorted[count / 2] : count > 0 ? (sorted[count / 2 - 1] + sorted[count / 2]) / 2 : 0
            let taken = zip(distances, weights).map { $0 > radius ? $1 * radius / $0 : $1 }
            return Combination(weights: taken, center: center == nil ? 0 : 1 - taken.reduce(0, +))
        }
    }

    /// Weiszfeld's iteration: the point is a mean by weights over distances, until it moves no more.
    private static func geometricMedian(_ gram: Gram, _ given: [Double]) -> [Double] {
        let count = given.count
        let size = (0..<count).map { gram[$0, $0].squareRoot() }.reduce(0, +) / Double(max(count, 1))
        // Nearer than this a change counts no more: it would count for all.
        let least = size * 1e-7
        guard size > 0 else { return given }
        var weights = given
        for _ in 0..<500 {
            let inner = (0..<count).map { row in (0..<count).reduce(0) { $0 + weights[$1] * gram[row, $1] } }
            let square = zip(weights, inner).reduce(0) { $0 + $1.0 * $1.1 }
            let parts = (0..<count).map { index in
                given[index] / max(max(0, gram[index, index] - 2 * inner[index] + square).squareRoot(), least)
            }
            let sum = parts.reduce(0, +)
            let next = parts.map { $0 / sum }
            let moved = zip(weights, next).reduce(0) { max($0, abs($1.0 - $1.1)) }
            weights = next
            if moved < 1e-12 { break }
        }
        return weights
    }
}
