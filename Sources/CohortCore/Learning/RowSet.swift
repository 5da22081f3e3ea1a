/// Rows as ranges of places in a table: ascending, with gaps between them.
public struct RowSet: Hashable, Sendable {
    public private(set) var ranges: [RowRange] = []

    public init() {}

    public init(_ ranges: some Sequence<RowRange>) { for range in ranges { insert(range) } }

    public var isEmpty: Bool { ranges.isEmpty }
    public var count: Int { ranges.reduce(0) { $0 + $1.count } }

    public mutating func insert(_ range: RowRange) {
        guard range.count > 0 else { return }
        var merged = range
        var before: [RowRange] = []
        var after: [RowRange] = []
        for other in ranges {
            if other.end < range.start {
                before.append(other)
            } else if other.start > range.end {
                after.append(other)
            } else {
                merged = RowRange(start: min(merged.start, other.start), end: max(merged.end, other.end))
            }
        }
        ranges = before + [merged] + after
    }

    public func contains(_ range: RowRange) -> Bool {
        range.count <= 0 || ranges.contains { $0.start <= range.start && range.end <= $0.end }
    }

    /// Returns the parts of `range` that are not in the set, ascending.
    public func missing(of range: RowRange) -> [RowRange] {
        var missing: [RowRange] = []
        var start = range.start
        for other in ranges where other.end > start && other.start < range.end {
            if other.start > start { missing.append(RowRange(start: start, end: other.start)) }
            start = max(start, other.end)
        }
        if start < range.end { missing.append(RowRange(start: start, end: range.end)) }
        return missing
    }
}

extension RowSet: Codable {
    public init(from decoder: any Decoder) throws { self.init(try decoder.singleValueContainer().decode([RowRange].self)) }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(ranges)
    }
}
