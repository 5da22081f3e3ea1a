/// When a round closes with those who answered, told from the times seen and not from a constant that somebody must guess.
public struct RoundDeadline: Sendable {
    /// Share of the round's work that must have arrived before the grace begins.
    public static let quorum = 0.8
    /// Seconds; the least grace.
    public static let leastGrace = 5.0

    /// Seconds that recent rounds took, peer by peer, oldest first.
    public private(set) var recent: [Double]

    public init(recent: [Double] = []) { self.recent = recent }

    public mutating func add(_ seconds: Double) {
        recent.append(seconds)
        if recent.count > 64 { recent.removeFirst(recent.count - 64) }
    }

    /// Seconds; nil as long as nobody has answered.
    public var median: Double? {
        guard !recent.isEmpty else { return nil }
        let sorted = recent.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// Seconds after the round's start at which it closes, if it does not close by itself before: a grace of max(5 s, a quarter of the median)
    /// after the quorum arrived, and three times the median (plus the least grace) at the latest.
    /// - Parameters:
    ///   - quorumAt: seconds after the start at which 80 % of the work, from at least `min_peers`, had arrived; nil: not yet.
    /// - Returns: nil: no deadline yet.
    public func closesAt(quorumAt: Double?) -> Double? {
        guard let median else { return nil }
        let latest = 3 * median + Self.leastGrace
        guard let quorumAt else { return latest }
        return min(latest, quorumAt + max(Self.leastGrace, median / 4))
    }
}
