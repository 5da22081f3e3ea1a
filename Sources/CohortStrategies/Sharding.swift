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

    /// The number of ranges in a share above which all rows are dealt in consecutive ranges.
    private static let maxRanges = 16
    /// Peers up to which a share that grows is filled with rows that the peer had before.
    private static let maxPeersWithHistory = 256

    /// Shares of these sizes, of which each peer keeps as many of the rows that it had as fit: what a machine does not have it must fetch.
    /// - Parameters:
    ///   - held: each peer's rows so far, those that it had longest first.
    ///   - shares: consecutive ranges that hold all rows: their sizes count, and they are the result when no peer has rows.
    ///   - dealt: all rows that each peer ever had.
    public static func keeping(_ held: [[RowRange]], shares: [RowRange], dealt: [RowSet?] = []) -> [[RowRange]] {
        let consecutive = shares.map { $0.count > 0 ? [$0] : [] }
        guard held.contains(where: { !$0.isEmpty }), let total = shares.last?.end else { return consecutive }
        var left = shares.map(\.count)
        var kept = disjoint(held, within: total)
        for peer in kept.indices {
            kept[peer] = kept[peer].compactMap { range in
                let count = min(range.count, left[peer])
                left[peer] -= count
                return count > 0 ? RowRange(start: range.start, end: range.start + count) : nil
            }
        }
        var free: [RowRange] = []
        var start = 0
        for range in kept.joined().sorted(by: { $0.start < $1.start }) + [RowRange(start: total, end: total)] {
            if range.start > start { free.append(RowRange(start: start, end: range.start)) }
            start = range.end
        }
        if shares.count <= maxPeersWithHistory {
            for peer in dealt.indices where left[peer] > 0 {
                for had in dealt[peer]?.ranges ?? [] { move(had, from: &free, into: &kept[peer], left: &left[peer]) }
            }
        }
        var rest = free[...]
        for peer in kept.indices {
            while left[peer] > 0, let range = rest.first {
                let count = min(left[peer], range.count)
                kept[peer].append(RowRange(start: range.start, end: range.start + count))
                left[peer] -= count
                if count == range.count { rest.removeFirst() } else { rest[rest.startIndex].start += count }
            }
        }
        kept = kept.map(joined)
        return kept.contains { $0.count > maxRanges } ? consecutive : kept
    }

    /// The ranges without what an earlier one holds already.
    private static func disjoint(_ held: [[RowRange]], within total: Int) -> [[RowRange]] {
        var all: [(range: RowRange, peer: Int, order: Int)] = []
        for (peer, ranges) in held.enumerated() {
            for (order, range) in ranges.enumerated() {
                all.append((RowRange(start: max(0, range.start), end: min(total, range.end)), peer, order))
            }
        }
        all.sort { ($0.range.start, $0.peer) < ($1.range.start, $1.peer) }
        var end = 0
        for index in all.indices {
            all[index].range.start = max(all[index].range.start, end)
            end = max(end, all[index].range.end)
        }
        var result = held.map { [RowRange](repeating: RowRange(start: 0, end: 0), count: $0.count) }
        for (range, peer, order) in all where range.count > 0 { result[peer][order] = range }
        return result.map { $0.filter { $0.count > 0 } }
    }

    /// Moves up to `left` of the free rows that lie in `wanted`.
    private static func move(_ wanted: RowRange, from free: inout [RowRange], into share: inout [RowRange], left: inout Int) {
        var rest: [RowRange] = []
        for (index, range) in free.enumerated() {
            let start = max(range.start, wanted.start)
            let end = min(range.end, wanted.end, start + left)
            guard left > 0, start < end else {
                if left == 0 {
                    rest += free[index...]
                    break
                }
                rest.append(range)
                continue
            }
            share.append(RowRange(start: start, end: end))
            left -= end - start
            rest += [RowRange(start: range.start, end: start), RowRange(start: end, end: range.end)].filter { $0.count > 0 }
        }
        free = rest
    }

    /// Ranges that follow one another in the list and in the table as one.
    private static func joined(_ ranges: [RowRange]) -> [RowRange] {
        var result: [RowRange] = []
        for range in ranges {
            if let last = result.last, last.end == range.start {
                result[result.count - 1].end = range.end
            } else {
                result.append(range)
            }
        }
        return result
    }
}
