public import CohortCore

/// The number of times that each position of the permutation was trained on: a run-length list, small whatever the row count.
public struct RowLedger: Codable, Hashable, Sendable {
    /// Runs in order; they cover 0 ..< rows without gaps.
    public private(set) var runs: [Run]

    public struct Run: Codable, Hashable, Sendable {
        public var end: Int
        public var count: Int
    }

    public init(rows: Int) { runs = rows > 0 ? [Run(end: rows, count: 0)] : [] }

    /// Counts `epochs` passes over `range`.
    public mutating func add(_ range: RowRange, epochs: Int) {
        guard range.count > 0, epochs > 0 else { return }
        var result: [Run] = []
        func append(end: Int, count: Int, after start: Int) {
            guard end > start else { return }
            if let last = result.last, last.count == count {
                result[result.count - 1].end = end
            } else {
                result.append(Run(end: end, count: count))
            }
        }
        var start = 0
        for run in runs {
            let low = min(max(range.start, start), run.end)
            let high = min(max(range.end, start), run.end)
            append(end: low, count: run.count, after: start)
            append(end: high, count: run.count + epochs, after: low)
            append(end: run.end, count: run.count, after: high)
            start = run.end
        }
        runs = result
    }

    public var use: RowUse {
        var start = 0
        var total = 0
        for run in runs {
            total += (run.end - start) * run.count
            start = run.end
        }
        return RowUse(
            rows: start, least: runs.map(\.count).min() ?? 0, most: runs.map(\.count).max() ?? 0,
            mean: start > 0 ? Double(total) / Double(start) : 0)
    }
}

public struct RowUse: Codable, Hashable, Sendable {
    public var rows: Int
    /// Fewest and most times any row was trained on.
    public var least: Int
    public var most: Int
    public var mean: Double

    public init(rows: Int, least: Int, most: Int, mean: Double) {
        self.rows = rows
        self.least = least
        self.most = most
        self.mean = mean
    }
}
