/// Half-open places `start ..< end` in a session's table, or positions in its validation rows.
public struct RowRange: Codable, Hashable, Sendable {
    public var start: Int
    public var end: Int

    public init(start: Int, end: Int) {
        self.start = start
        self.end = end
    }

    public var count: Int { end - start }
}

extension RowRange {
    /// - Returns: whether `start` and `end` are in order, within `count` places.
    public func isValid(among count: Int) -> Bool { start >= 0 && start <= end && end <= count }

    /// The range, moved by `offset` places.
    public func moved(by offset: Int) -> RowRange { RowRange(start: start + offset, end: end + offset) }
}
