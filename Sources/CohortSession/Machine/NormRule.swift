import CohortWire

/// Limits updates, optimizer moments and control variates that are far longer (L2 norm) than the other peers'.
enum NormRule {
    /// An update longer than this many times the median is clipped to it, unless the settings refuse it before.
    static let clipRatio = 10.0
    /// An update longer than this many times the median is reported.
    static let reportedRatio = 3.0
    /// A stream longer than this many times the median is clipped to it.
    static let maxStreamRatio = 3.0
    /// A stream longer than this many times the median is discarded.
    static let discardedStreamRatio = 30.0
    /// The number of earlier norms that are kept.
    static let history = 64

    enum Verdict: Hashable {
        case normal
        /// Reported; counts in full.
        case long
        /// Counts with its change scaled by this factor.
        case clipped(scale: Double)
        /// Longer than `max_norm_ratio`.
        case refused
    }

    /// The median to compare with: of this round's norms where there are three or more, else of at least five earlier ones; nil where there are fewer, or
    /// where it is 0.
    static func median(of norms: some Collection<Double>, earlier: [Double]) -> Double? {
        let known = norms.count >= 3 ? norms.sorted() : earlier.count >= 5 ? earlier.sorted() : []
        guard !known.isEmpty, known[known.count / 2] > 0 else { return nil }
        return known[known.count / 2]
    }

    /// - Parameters:
    ///   - ratio: an update's norm, divided by the median.
    ///   - limit: the setting `max_norm_ratio`.
    static func verdict(ratio: Double, limit: Double?) -> Verdict {
        if let limit, ratio > limit { return .refused }
        if ratio > clipRatio { return .clipped(scale: clipRatio / ratio) }
        return ratio > reportedRatio ? .long : .normal
    }

    /// The factor by which a stream counts; 0: it is discarded.
    /// - Parameter ratio: the stream's norm, divided by the median.
    static func streamScale(ratio: Double) -> Double {
        ratio > discardedStreamRatio ? 0 : ratio > maxStreamRatio ? maxStreamRatio / ratio : 1
    }
}

extension SessionMachine {
    /// Compares the norms of the round's updates with their median; removes the answers that the settings refuse.
    /// - Returns: the factor for each update that is clipped, by peer.
    mutating func limitNorms(in turn: inout Turn) -> [String: Double] {
        guard strategy.comparesNorms else { return [:] }
        var scales: [String: Double] = [:]
        if let median = NormRule.median(of: answered.compactMap(\.answer?.norm), earlier: session.updateNorms) {
            for index in session.peers.indices {
                let peer = session.peers[index]
                guard let answer = peer.answer, answer.round == session.round, let norm = answer.norm else { continue }
                let ratio = norm / median
                switch NormRule.verdict(ratio: ratio, limit: session.settings.maxNormRatio) {
                case .normal: break
                case .long: notify(.note, Notices.longUpdate(of: peer, ratio: ratio), in: &turn, peer: peer)
                case .clipped(let scale):
                    scales[peer.id] = scale
                    notify(.note, Notices.clippedUpdate(of: peer, ratio: ratio), in: &turn, peer: peer)
                case .refused:
                    session.peers[index].discardAnswer()
                    let reason = Notices.refusedUpdate(of: peer, ratio: ratio, limit: session.settings.maxNormRatio ?? 0)
                    turn.send(.refused(peerId: peer.id, round: session.round, attempt: peer.attempt ?? 0, reason: reason))
                    if peer.isAlive { skipRound(index, reason: reason, in: &turn) }
                }
            }
        }
        session.updateNorms = Array((session.updateNorms + answered.compactMap(\.answer?.norm)).suffix(NormRule.history))
        return scales
    }

    /// Sets ``Share/streamScales`` of the streams that are too long.
    mutating func limitStreams(in outcome: inout RoundOutcome, turn: inout Turn) {
        guard !strategy.trainsOwnModels else { return }
        let ratios = streamRatios(of: outcome.shares.map(\.peerId))
        for index in outcome.shares.indices {
            let id = outcome.shares[index].peerId
            guard let long = ratios[id]?.filter({ $0.value > NormRule.maxStreamRatio }), !long.isEmpty else { continue }
            outcome.shares[index].streamScales = long.mapValues(NormRule.streamScale)
            // The norm of squares is that of their roots.
            if let scale = outcome.shares[index].streamScales?["exp_avg_sq"] {
                outcome.shares[index].streamScales?["exp_avg_sq"] = scale * scale
            }
            guard let peer = place(of: id) else { continue }
            for (stream, ratio) in long.sorted(by: { $0.key < $1.key }) {
                notify(.note, Notices.longStream(stream, of: peer, ratio: ratio), in: &turn, peer: peer)
            }
        }
        for (stream, norms) in roundStreamNorms(of: outcome.shares.map(\.peerId)) {
            session.streamNorms = (session.streamNorms ?? [:]).merging([stream: Array(norms.values.sorted())]) {
                Array(($0 + $1).suffix(NormRule.history))
            }
        }
    }

    /// Each peer's stream norms, divided by the median of that stream; empty when there is no median to compare with.
    func streamRatios(of peerIds: [String]) -> [String: [String: Double]] {
        var ratios: [String: [String: Double]] = [:]
        for (stream, norms) in roundStreamNorms(of: peerIds) {
            guard let median = NormRule.median(of: norms.values, earlier: session.streamNorms?[stream] ?? []) else { continue }
            for (id, norm) in norms { ratios[id, default: [:]][stream] = norm / median }
        }
        return ratios
    }

    /// The norms of the round's answers: by stream, then by peer.
    private func roundStreamNorms(of peerIds: [String]) -> [String: [String: Double]] {
        var norms: [String: [String: Double]] = [:]
        for id in peerIds {
            for (stream, norm) in place(of: id)?.answer?.streamNorms ?? [:] { norms[stream, default: [:]][id] = norm }
        }
        return norms
    }
}
