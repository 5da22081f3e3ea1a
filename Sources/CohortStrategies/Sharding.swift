public import CohortCore

/// Deals rows out.
public enum Sharding {
    /// `total` positions in consecutive ranges, in proportion to `weights`: by largest remainder, ties to the first; every row is
    /// dealt exactly once, and where there are enough, every peer gets at least one. A weight that is not a positive number counts as the
    /// smallest there is.
    public static func proportional(_ total: Int, weights: [Double]) -> [RowRange] {
        guard !weights.isEmpty else { return [] }
        let least = total >= weights.count ? 1 : 0
        let free = total - least * weights.count
        // In parts of the largest, so that no sum overflows and each part is within 0 … `free`.
        let largest = weights.lazy.filter { $0.isFinite && $0 > 0 }.max() ?? 1
        var parts = weights.map { $0 == .infinity ? 1 : $0.isFinite && $0 > 0 ? $0 / largest : 0 }
        if parts.allSatisfy({ $0 == 0 }) { parts = parts.map { _ in 1 } }
        let sum = parts.reduce(0, +)
        let exact = parts.map { Double(max(free, 0)) * ($0 / sum) }
        var counts = exact.map { Int($0) }
        let left = max(free, 0) - counts.reduce(0, +)
        let order = exact.indices.sorted { a, b in
            let (x, y) = (exact[a] - exact[a].rounded(.down), exact[b] - exact[b].rounded(.down))
            return x == y ? a < b : x > y
        }
        for index in order.prefix(max(left, 0)) { counts[index] += 1 }
        // Rounding may deal one too many.
        for index in order.reversed().filter({ counts[$0] > 0 }).prefix(max(-left, 0)) { counts[index] -= 1 }
        var start = 0
        return counts.enumerated().map { index, count in
            // Fewer rows than takers: the first get one each.
            let count = least == 1 ? count + 1 : (index < total ? 1 : 0)
            defer { start += count }
            return RowRange(start: start, end: start + count)
        }
    }
}
