public import CohortCore
public import CohortSession

/// A strategy by which every round each peer trains on its share of the rows, from the same weights.
public protocol RoundsOfShares: Strategy {}

extension RoundsOfShares {
    public var settings: Set<String> { ["weighting"] }

    public func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
        let shares = Sharding.proportional(trainingRows, weights: Sharding.weights(of: peers))
        return Sharding.keeping(peers.map { $0.lastRows ?? $0.rowsAhead ?? [] }, shares: shares, dealt: peers.map(\.dealt))
    }

    public func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
        .average(Self.shares(of: answers, by: settings.weighting ?? .samples))
    }

    /// Weights that sum to 1. Where no answer has the required count, all are equal.
    static func shares(of answers: [StrategyAnswer], by weighting: Weighting) -> [Share] {
        let parts = answers.map { answer in
            switch weighting {
            case .samples: answer.samples
            case .uniform: 1
            case .steps: answer.steps
            }
        }
        let total = parts.reduce(0) { $0 + $1 }
        return zip(answers, parts).map { answer, part in
            Share(peerId: answer.peerId, weight: total > 0 ? Double(part) / Double(total) : 1 / Double(answers.count))
        }
    }
}

extension Sharding {
    /// Speeds, within bounds: a declared speed is a claim until the first answer, and earns at most 8 times the median's share.
    static func weights(of peers: [SessionPeer]) -> [Double] {
        let sorted = peers.map(\.speed).sorted()
        guard !sorted.isEmpty else { return [] }
        let median = sorted[sorted.count / 2]
        return peers.map { peer in
            min(max(peer.speed, median / 64), median * (peer.trainedSamples > 0 ? 64 : 8))
        }
    }
}
