/// Which rows a peer trains on: ranges of the permutation that the stream `rows` of `seed` makes of the ascending training rows by Fisher–Yates.
public struct RowAssignment: Codable, Hashable, Sendable {
    public var seed: UInt64
    public var ranges: [RowRange]

    public init(seed: UInt64, ranges: [RowRange]) {
        self.seed = seed
        self.ranges = ranges
    }

    public var count: Int { ranges.reduce(0) { $0 + $1.count } }

    /// The table's row indices this assignment names, in the permutation's order.
    /// - Throws: ``CohortError`` `invalid` when a range reaches past the rows there are.
    public func rows(of trainingRows: [UInt32]) throws -> [UInt32] {
        var permutation = trainingRows
        var generator = SeededGenerator(seed: seed, purpose: "rows")
        generator.shuffle(&permutation)
        return try ranges.flatMap { range in
            guard range.start >= 0, range.start <= range.end, range.end <= permutation.count else {
                throw CohortError(
                    .invalid, "rows \(range.start) to \(range.end) were assigned, but there are \(permutation.count) training rows")
            }
            return permutation[range.start..<range.end]
        }
    }
}

/// Half-open positions `start ..< end` in the session's permutation of the training rows, or in the validation rows.
public struct RowRange: Codable, Hashable, Sendable {
    public var start: Int
    public var end: Int

    public init(start: Int, end: Int) {
        self.start = start
        self.end = end
    }

    public var count: Int { end - start }
}
