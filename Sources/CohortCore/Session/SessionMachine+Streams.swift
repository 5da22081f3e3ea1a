/// Optimizer moments and control variates obey the same rule as weights: what is far longer than the other peers' does not count in full.
extension SessionMachine {
    /// A stream longer than this many times the median is shortened to it.
    static let maxStreamRatio = 3.0
    /// A stream longer than this many times the median is discarded.
    static let discardedStreamRatio = 30.0
    /// The number of norms that are kept of each stream.
    private static let keptNorms = 64

    /// Compares each stream's norm with the median of the round's answers, or of earlier rounds when fewer than three answered, and sets
    /// ``Share/streamScales`` of the streams that are too long.
    mutating func limitStreams(in outcome: inout RoundOutcome, in turn: inout Turn) {
        guard !strategy.trainsOwnModels else { return }
        let ratios = streamRatios(of: outcome.shares.map(\.peerId))
        for index in outcome.shares.indices {
            let id = outcome.shares[index].peerId
            guard let long = ratios[id]?.filter({ $0.value > Self.maxStreamRatio }), !long.isEmpty else { continue }
            outcome.shares[index].streamScales = long.mapValues { ratio in
                ratio > Self.discardedStreamRatio ? 0 : Self.maxStreamRatio / ratio
            }
            // Norms of squares are those of their roots.
            if let scale = outcome.shares[index].streamScales?["exp_avg_sq"] {
                outcome.shares[index].streamScales?["exp_avg_sq"] = scale * scale
            }
            guard let place = place(of: id) else { continue }
            for (stream, ratio) in long.sorted(by: { $0.key < $1.key }) {
                let change = ratio > Self.discardedStreamRatio ? "it is discarded" : "it is shortened to \(Int(Self.maxStreamRatio)) times"
                notify(
                    .note, "\(place.name)'s \(stream) is \(Self.times(ratio)) times as long as the median: \(change)", in: &turn,
                    peer: place)
            }
        }
        for (stream, norms) in roundStreamNorms(of: outcome.shares.map(\.peerId)) {
            session.streamNorms = (session.streamNorms ?? [:]).merging([stream: Array(norms.values.sorted())]) {
                Array(($0 + $1).suffix(Self.keptNorms))
            }
        }
    }

    /// Each peer's stream norms, divided by the median of that stream; empty when there is no median to compare with.
    func streamRatios(of peerIds: [String]) -> [String: [String: Double]] {
        var ratios: [String: [String: Double]] = [:]
        for (stream, norms) in roundStreamNorms(of: peerIds) {
            let earlier = session.streamNorms?[stream] ?? []
            let known = norms.count >= 3 ? norms.values.sorted() : earlier.count >= 5 ? earlier.sorted() : []
            guard !known.isEmpty, known[known.count / 2] > 0 else { continue }
            for (id, norm) in norms { ratios[id, default: [:]][stream] = norm / known[known.count / 2] }
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

    /// A ratio as text, for a person.
    static func times(_ ratio: Double) -> String {
        ratio >= 10 ? "\(Int(min(ratio, 1e9)))" : "\((ratio * 10).rounded() / 10)"
    }
}
