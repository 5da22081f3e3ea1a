package import CohortCore
package import CohortSession
import CohortStrategies
import CohortTraining
import CohortWire

/// A round's updates become the next weights.
extension Aggregator {
    package struct Aggregate {
        package var reference: ObjectReference
        /// The model's, without what optimizers remember.
        package var parameters: [Float]
        package var outer: OuterState?
        /// The contributions, in the document's order of peers.
        package var contributions: [Contribution]
    }

    /// A round's updates as one, before the server's own step and before anything is stored.
    package struct Combined {
        var values: [Float]
        let round: Round
        package let contributions: [Contribution]
        /// The model's, without what optimizers remember.
        package var parameters: [Float] { round.layout.parameters(of: values) }
    }

    /// Aggregates the round's updates into the global weights. Peers come in the order of the document, whenever they answered: the same
    /// answers give the same bits. In memory are one model, a slice of each update, and what the server remembers.
    /// - Throws: ``Changed`` when an update is not the one that was accepted, ``Diverged``.
    package func aggregate(_ outcome: RoundOutcome, of session: Session, outer: OuterOptimizer? = nil) async throws -> Aggregate {
        var combined = try await combine(outcome, of: session, outer: outer)
        let state = try await step(&combined, by: outer)
        let parameters = combined.parameters
        let weights = try await store(&combined)
        try await weights.durable()
        return Aggregate(
            reference: weights.reference, parameters: parameters, outer: state, contributions: combined.contributions)
    }

    /// - Throws: ``Changed`` when an update is not the one that was accepted.
    package func combine(_ outcome: RoundOutcome, of session: Session, outer: OuterOptimizer? = nil) async throws -> Combined {
        guard let startLayout = session.layout, let layout = session.updateLayout else {
            throw CohortError(.internal, "there is no model to aggregate")
        }
        guard !outcome.shares.isEmpty else { throw CohortError(.internal, "there is nothing to aggregate") }
        // A large model that the round began with is read along: two would be in memory else.
        if layout.count > maxKept { known = nil }
        let hasCenter = outer == nil && !outcome.rule.slots.isEmpty && session.outer?.slots != nil
        let round = Round(outcome, of: session, layout: layout, startLayout: startLayout, hasCenter: hasCenter)
        try await checkSlots(outer?.slots ?? outcome.rule.slots, round)
        let (values, parts) = try await combined(round, try await combination(round))
        return Combined(values: values, round: round, contributions: parts.map { $0.named(session) })
    }

    /// Makes the server's step.
    /// - Returns: what the outer optimizer remembers; nil for none.
    /// - Throws: ``Diverged``.
    package func step(_ combined: inout Combined, by outer: OuterOptimizer?) async throws -> OuterState? {
        var values: [Float] = []
        // Taken out for as long as they are changed, so that they are in memory once.
        swap(&values, &combined.values)
        defer { swap(&values, &combined.values) }
        return try await step(by: outer, on: &values, of: combined.round, key: "\(Self.checkpointKey(combined.round))-slots.safetensors")
    }

    /// Stores the weights.
    /// - Parameter combined: whose values are taken out, so that they are in memory once.
    package func store(_ combined: inout Combined) async throws -> AheadObject {
        let round = combined.round
        var values: [Float] = []
        swap(&values, &combined.values)
        let weights = try await store(values, try Weights.header(round.layout), key: "\(Self.checkpointKey(round)).safetensors")
        known = (weights.reference.sha256, values)
        kept = [:]
        return weights
    }

    /// The generation is in its name: a coordinator that was fenced off writes none of its successor's.
    private static func checkpointKey(_ round: Round) -> String {
        "\(round.session.checkpointPrefix)g\(round.session.generation)-r\(round.session.round)"
    }

    /// A round to be aggregated.
    struct Round {
        let outcome: RoundOutcome
        let session: Session
        /// The layout of the updates and of the result.
        let layout: WeightsLayout
        /// The layout of the weights that the round began with.
        let startLayout: WeightsLayout
        /// The change of the previous round is known, for rules that depend on it.
        let hasCenter: Bool
        let updates: [String: ObjectReference]

        var shares: [Share] { outcome.shares }
        let modelCount: Int
        /// The number of the model's parameters that an optimizer trains.
        let trainedCount: Int

        /// Values of a source that the round's own weights have as well: behind them nothing can be mixed in.
        var sharedCount: Int { layout == startLayout ? layout.count : modelCount }

        init(
            _ outcome: RoundOutcome, of session: Session, layout: WeightsLayout, startLayout: WeightsLayout, hasCenter: Bool
        ) {
            self.outcome = outcome
            self.session = session
            self.layout = layout
            self.startLayout = startLayout
            self.hasCenter = hasCenter
            (modelCount, trainedCount) = (layout.model.parameterCount, layout.model.trainedParameterCount)
            updates = Dictionary(
                session.peers.compactMap { peer in peer.answer?.update.map { (peer.id, $0) } }, uniquingKeysWith: { first, _ in first })
        }
    }

    /// The weight of each update's change in the new weights.
    struct Mixture {
        var combination: Combination
        /// nil: each change is taken as it is.
        var mixing: [[Double]]?
        /// The inner products of the changes; nil where the rule needs none.
        var gram: Gram?
    }

    private func source(_ share: Share, _ round: Round) async throws -> UpdateSource {
        guard let update = round.updates[share.peerId] else {
            throw Changed(peerId: share.peerId, reason: "its accepted update is missing")
        }
        let sha256 = update.sha256.lowercased()
        if let kept = kept[update.key], kept.sha256 == sha256 { return UpdateSource(kept.chunks, round.layout, of: share.peerId) }
        do {
            return try await UpdateSource(update, in: objects, round.layout, of: share.peerId)
        } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
            throw Changed(peerId: share.peerId, reason: "its update is not what was accepted: \(error.message)")
        }
    }

    /// A source of the weights that the round began with.
    func startSource(_ round: Round) async throws -> UpdateSource {
        let (layout, shared) = (round.startLayout, round.sharedCount)
        if layout.count > maxKept, let weights = round.session.weights, known?.sha256 != weights.sha256 {
            // A file without streams is one that training began with: those are zeros then, which only reading it whole tells.
            if weights.bytes > 4 * layout.count {
                return try await UpdateSource(weights, in: objects, layout, of: nil, values: shared)
            }
        }
        return UpdateSource(try await start(of: round.session, layout), of: nil, values: shared)
    }

    /// The first pass: determines the weights of the updates; for rules that depend on whole changes, in a separate pass that sums their inner products.
    private func combination(_ round: Round) async throws -> Mixture {
        let weights = round.shares.map(\.weight)
        let malicious = round.outcome.mixing ?? 0
        guard round.outcome.rule.combines || malicious > 0 else {
            return Mixture(combination: Combination(weights: weights))
        }
        var sources = [try await startSource(round)]
        for share in round.shares { sources.append(try await source(share, round)) }
        if round.hasCenter { sources += try await slotSources(round.outcome.rule.slots, round) }
        let count = sources.count - 1
        let sum = GramSum(count: count, values: round.modelCount)
        let scales = (0..<count).map { $0 < round.shares.count ? round.shares[$0].scale : 1 }
        let walk = UpdateWalk(sources, values: round.layout.count, width: sliceWidth)
        var position = 0
        while position < round.layout.count {
            let isModel = position < round.modelCount
            let some = min(sliceWidth, (isModel ? round.modelCount : round.layout.count) - position)
            try await walk.next(some, isModel: isModel, isolation: self)
            if isModel {
                let rows = (1...count).map { (values: walk.row($0), isChange: $0 > round.shares.count) }
                sum.add(rows, start: walk.row(0), scales: scales)
            }
            position += some
        }
        try await walk.end(isolation: self)
        let gram = sum.gram
        let mixing = malicious > 0 ? NearestNeighborMixing.rows(gram, count: round.shares.count, malicious: malicious) : nil
        let combination = round.outcome.rule.combination(mixing.map { gram.mixed($0) } ?? gram, weights: weights)
        return Mixture(combination: combination, mixing: mixing, gram: gram)
    }

    /// The figures of one peer's update.
    private struct Part {
        let share: Share
        let update: ObjectReference?
        var weight: Double?
        var dots = ChangeDots()
        var cosine: Double?

        func named(_ session: Session) -> Contribution {
            let peer = session.peers.first { $0.id == share.peerId }
            return Contribution(
                peerId: share.peerId, peerName: peer?.name ?? "", samples: peer?.answer?.results.samples ?? 0,
                sha256: update?.sha256.lowercased() ?? "", key: session.settings.keepUpdates == true ? update?.key : nil, weight: weight,
                norm: dots.own.squareRoot(), cosine: cosine)
        }
    }

    /// The second pass: the combination of all updates, slice by slice.
    private func combined(_ round: Round, _ mixture: Mixture) async throws -> ([Float], [Part]) {
        let count = round.shares.count
        var combiner = SliceCombiner(round, mixture, width: sliceWidth)
        let read = combiner.read
        var parts = round.shares.map { Part(share: $0, update: round.updates[$0.peerId]) }
        if !combiner.isByColumn { for index in parts.indices { parts[index].weight = combiner.weights[index] } }
        var sources = [try await startSource(round)]
        for index in read { sources.append(try await source(round.shares[index], round)) }
        if combiner.usesCenter { sources += try await slotSources(round.outcome.rule.slots, round) }
        let walk = UpdateWalk(sources, values: round.layout.count, width: sliceWidth)
        var all = ChangeDots()
        var values = [Float](repeating: 0, count: round.layout.count)
        var position = 0
        while position < round.layout.count {
            let isModel = position < round.modelCount
            // A slice is of the trained parameters, of a module's statistics, or of one stream.
            let end = position < round.trainedCount ? round.trainedCount : round.modelCount
            let width = min(sliceWidth, end - position % round.modelCount)
            try await walk.next(width, isModel: isModel, isolation: self)
            values.withUnsafeMutableBufferPointer { values in
                let result = UnsafeMutableBufferPointer(rebasing: values[position..<(position + width)])
                combiner.combine(walk, at: position, into: result)
                guard isModel else { return }
                let (made, start) = (UnsafeBufferPointer(result), walk.row(0))
                for (row, index) in read.enumerated() { parts[index].dots.add(walk.row(row + 1), start: start, combined: made) }
                all.add(made, start: start, combined: made)
            }
            position += width
        }
        try await walk.end(isolation: self)
        round.layout.model.boundStatistics(of: &values)
        round.layout.boundMoments(of: &values, round.session.settings.optimizer)
        for index in 0..<count {
            if !read.contains(index), let gram = mixture.gram {
                let product = (0..<count).reduce(0) { $0 + mixture.combination.weights[$1] * gram[index, $1] }
                parts[index].dots = ChangeDots(combined: product, own: gram[index, index])
            }
            guard count > 1 else { continue }
            parts[index].cosine = parts[index].dots.cosine(all: all, weight: parts[index].weight ?? 0)
        }
        return (values, parts)
    }

    /// Stores a weights file; a large one is written a piece at a time.
    private func store(_ values: [Float], _ header: [UInt8], key: String) async throws -> AheadObject {
        guard values.count > maxKept else {
            var bytes = header
            bytes.reserveCapacity(header.count + 4 * values.count)
            values.withUnsafeBytes { bytes += $0 }
            return try await objects.putAhead(bytes, key: key)
        }
        let writer = try await objects.writer(key: key)
        do {
            try await writer.write(header)
            try await writer.write(pieces: values)
            return AheadObject(reference: try await writer.finish()) {}
        } catch {
            await writer.abort()
            throw error
        }
    }
}
