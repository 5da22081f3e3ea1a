import CohortCore
import CohortWire

/// Finds updates that make the model worse: those that stand out among a round's updates and without which the held-out loss is clearly lower.
public enum HarmRule {
    /// An update longer than this many times the median stands out, as does one whose cosine to the others' change is below the second number.
    private static let (conspicuousRatio, conspicuousCosine) = (3.0, -0.2)
    /// The number of harmful answers in a row after which a peer is excluded.
    static let maxStrikes = 2
    /// The number of updates of a round that are tested.
    private static let maxSuspects = 5

    /// A peer whose update stands out.
    public struct Suspect: Hashable, Sendable {
        public var peerId: String
        /// The reason: the rest of a sentence that begins with "its change", or with "it" where a stream stands out.
        public var reason: String
        /// Its optimizer state or control variate stands out: the model is measured after the steps that these cause.
        public var hasLongStream: Bool
    }

    /// The held-out loss that a round must have without an update for the update to be harmful.
    /// - Parameters:
    ///   - loss: with the update. Near 0, relative differences say little: the difference must also be a part of the loss of guessing.
    ///   - model: decides the loss of guessing: the logarithm of the number of classes, or 1, the variance of a standardized target.
    static func harmlessLoss(_ loss: Double, of model: ModelSpec?) -> Double {
        guard loss.isFinite else { return .infinity }
        let ln2 = 0.693147
        let guessing = model.map { $0.task == .classification ? ln2 * SpeedModel.octaves(Double(max(2, $0.outputs))) : 1 } ?? 1
        return min(loss * 0.95, loss - 0.03 * guessing)
    }

    /// The peers whose updates stand out, the most conspicuous first.
    /// - Parameter streamRatios: each peer's stream norms, divided by the median of the stream.
    static func suspects(among contributions: [Contribution], streamRatios: [String: [String: Double]]) -> [Suspect] {
        let norms = contributions.compactMap(\.norm).sorted()
        guard contributions.count >= 3, norms.count == contributions.count, norms[norms.count / 2] > 0 else { return [] }
        let median = norms[norms.count / 2]
        let found = contributions.compactMap { contribution -> (size: Double, suspect: Suspect)? in
            let id = contribution.peerId
            let ratio = (contribution.norm ?? 0) / median
            let cosine = contribution.cosine ?? 1
            if let longest = streamRatios[id]?.max(by: { ($0.value, $0.key) < ($1.value, $1.key) }),
                longest.value > max(ratio, NormRule.maxStreamRatio)
            {
                let reason = "has \(longest.key) \(Notices.times(longest.value)) times as long as the median"
                return (longest.value, Suspect(peerId: id, reason: reason, hasLongStream: true))
            }
            guard ratio > conspicuousRatio || cosine < conspicuousCosine else { return nil }
            let angle = "points against the others' (cosine \((cosine * 100).rounded() / 100))"
            let length = "is \(Int(min(ratio, 1e9))) times as long as the median"
            let reason = ratio <= conspicuousRatio ? angle : cosine >= conspicuousCosine ? length : "\(length) and \(angle)"
            return (max(ratio, 1) * (1.5 - cosine), Suspect(peerId: id, reason: reason, hasLongStream: false))
        }
        return found.sorted { ($0.size, $1.suspect.peerId) > ($1.size, $0.suspect.peerId) }.prefix(maxSuspects).map(\.suspect)
    }
}

extension SessionMachine {
    /// See ``HarmRule``: without a harmful update, the held-out loss is below this.
    public func harmlessLoss(_ loss: Double) -> Double { HarmRule.harmlessLoss(loss, of: session.model) }

    /// The peers whose updates of a round stand out. Only the mean needs this; robust rules limit outliers themselves.
    public func suspects(_ outcome: RoundOutcome, _ contributions: [Contribution]) -> [HarmRule.Suspect] {
        guard strategy.comparesNorms, outcome.rule == .mean, session.dataset?.validationRows ?? 0 > 0 else { return [] }
        return HarmRule.suspects(among: contributions, streamRatios: streamRatios(of: contributions.map(\.peerId)))
    }

    /// The round closes without a harmful answer; after the second in a row its peer is excluded.
    mutating func harmful(peerId: String, reason: String, in turn: inout Turn) {
        guard session.status == .running, case .aggregating(let since) = phase, let index = index(peerId) else { return }
        phase = .collecting(since: since)
        let peer = session.peers[index]
        session.peers[index].discardAnswer()
        let strikes = (peer.strikes ?? 0) + 1
        session.peers[index].strikes = strikes
        turn.send(.refused(peerId: peerId, round: session.round, attempt: peer.attempt ?? 0, reason: reason))
        change(.decision)
        guard peer.isAlive else { return }
        guard strikes >= HarmRule.maxStrikes else {
            session.peers[index].becomeReady()
            session.peers[index].message = reason
            return notify(.peer, Notices.skipped(peer, round: session.round, reason: reason), in: &turn, peer: peer)
        }
        notify(.peer, Notices.quarantined(peer, strikes: strikes, reason: reason), in: &turn, peer: peer)
        exclude(index, reason: "quarantined: \(reason)", in: &turn)
    }
}
