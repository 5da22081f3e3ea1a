extension Collection where Element == String {
    /// The first items and how many more there are, for a sentence: `a, b, c and 997 more`.
    public func bounded(to limit: Int = 3, separator: String = ", ") -> String {
        prefix(limit).joined(separator: separator) + (count > limit ? " and \(count - limit) more" : "")
    }
}
