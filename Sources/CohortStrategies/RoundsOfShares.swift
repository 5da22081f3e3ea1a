public import CohortCore

/// A strategy by which every round each peer trains on its share of the rows, from the same weights.
public protocol RoundsOfShares: Strategy {}

extension RoundsOfShares {
    public var synchronous: Bool { true }

    public func roundCount(_ settings: SessionSettings) -> Int { settings.rounds }

    public func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
        Sharding.proportional(trainingRows, weights: Sharding.weights(of: peers)).map { $0.count > 0 ? [$0] : [] }
    }
}

extension Sharding {
    /// Speeds, within bounds: a declared speed is a claim until the first answer, and nobody gets more than 8 times the median's share for it.
    static func weights(of peers: [SessionPeer]) -> [Double] {
        let sorted = peers.map(\.speed).sorted()
        guard !sorted.isEmpty else { return [] }
        let median = sorted[sorted.count / 2]
        return peers.map { peer in
            min(max(peer.speed, median / 64), median * (peer.trainedSamples > 0 ? 64 : 8))
        }
    }
}
