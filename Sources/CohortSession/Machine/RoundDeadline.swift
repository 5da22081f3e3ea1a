/// The time at which a round closes without late answers, derived from the times of the other answers.
public struct RoundDeadline: Sendable {
    /// Share of the round's work that must have arrived before the grace begins.
    public static let quorum = 0.8

    /// Seconds; the shortest grace.
    public let minGrace: Double

    /// Seconds that recent rounds took, peer by peer, oldest first.
    public private(set) var recent: [Double]

    public init(minGrace: Double = 5, recent: [Double] = []) {
        self.minGrace = minGrace
        self.recent = recent
    }

    public mutating func add(_ seconds: Double) {
        recent.append(seconds)
        if recent.count > 64 { recent.removeFirst(recent.count - 64) }
    }

    /// Seconds; nil before the first answer.
    public var median: Double? {
        guard !recent.isEmpty else { return nil }
        let sorted = recent.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// The number of answers that a deadline requires: at least half of the peers with work, so that one fast answer closes no round; both of two.
    public static func answersNeeded(of peers: Int, minPeers: Int) -> Int {
        max(minPeers, (peers + 1) / 2, min(peers, 2))
    }

    /// Seconds after the round's start at which it closes, if it does not close by itself before: a grace of max(`minGrace`, a quarter of the median)
    /// after the quorum arrived, and three times the median (plus `minGrace`) at the latest.
    /// - Parameters:
    ///   - quorumAt: seconds after the start at which 80 % of the work, from at least `min_peers`, had arrived; nil: not yet.
    /// - Returns: nil: no deadline yet.
    public func closesAt(quorumAt: Double?) -> Double? {
        guard let median else { return nil }
        let latest = 3 * median + minGrace
        guard let quorumAt else { return latest }
        return min(latest, quorumAt + max(minGrace, median / 4))
    }
}
