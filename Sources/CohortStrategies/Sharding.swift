public import CohortCore

/// Deals rows out.
public enum Sharding {
    /// `total` positions in consecutive ranges, in proportion to `weights` (each > 0): by largest remainder, ties to the first; every row is
    /// dealt exactly once, and where there are enough, everybody gets one at least.
    public static func proportional(_ total: Int, weights: [Double]) -> [RowRange] {
        guard !weights.isEmpty else { return [] }
        let least = total >= weights.count ? 1 : 0
        let free = total - least * weights.count
        let sum = weights.reduce(0, +)
        let exact = weights.map { Double(max(free, 0)) * $0 / sum }
        var counts = exact.map { Int($0) }
        let left = max(free, 0) - counts.reduce(0, +)
        let order = exact.indices.sorted { a, b in
            let (x, y) = (exact[a] - exact[a].rounded(.down), exact[b] - exact[b].rounded(.down))
            return x == y ? a < b : x > y
        }
        for index in order.prefix(max(left, 0)) { counts[index] += 1 }
        var start = 0
        return counts.enumerated().map { index, count in
            // Fewer rows than takers: the first get one each.
            let count = least == 1 ? count + 1 : (index < total ? 1 : 0)
            defer { start += count }
            return RowRange(start: start, end: start + count)
        }
    }

    /// `total` positions in `parts` consecutive ranges of nearly the same length.
    public static func even(_ total: Int, parts: Int) -> [RowRange] {
        (0..<parts).map { RowRange(start: total * $0 / parts, end: total * ($0 + 1) / parts) }
    }
}
