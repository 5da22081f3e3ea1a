import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import Crypto

/// The step of the outer optimizer on the mean of a round's updates, and its state.
extension Aggregator {
    /// Takes the server's step on the weights, not on the streams, slice by slice: in memory are the new weights, and the optimizer's slots except
    /// the first.
    /// - Parameter key: of what is remembered from here on.
    /// - Returns: nil where nothing is remembered.
    func step(by outer: OuterOptimizer?, on values: inout [Float], of round: Round, key: String) async throws -> OuterState? {
        let names = outer?.slots ?? round.outcome.rule.slots
        guard !names.isEmpty else { return nil }
        let size = outer?.needsSize(round.session.outer) == true ? try await size(of: values, round) : 0
        let step = outer?.step(after: round.session.outer, size: size)
        if outer != nil, step == nil { return OuterState(learningRate: 0) }
        var slots = try await SlotWriter(
            names, round.layout.model, key: key, in: objects, isSmall: names.count * round.modelCount <= maxKept)
        do {
            let remembered = outer == nil ? [] : try await slotSources(names, round)
            let walk = UpdateWalk([try await startSource(round)] + remembered, values: round.modelCount, width: sliceWidth)
            var rows = [Float](repeating: 0, count: names.count * min(sliceWidth, round.modelCount))
            var position = 0
            while position < round.modelCount {
                // A module's statistics are averaged and not stepped.
                let isTrained = position < round.trainedCount
                let some = min(sliceWidth, (isTrained ? round.trainedCount : round.modelCount) - position)
                try await walk.next(some, isModel: true, isolation: self)
                let isFinite = values.withUnsafeMutableBufferPointer { values in
                    rows.withUnsafeMutableBufferPointer { rows in
                        let mean = UnsafeMutableBufferPointer(rebasing: values[position..<(position + some)])
                        let slots = names.indices.map { UnsafeMutableBufferPointer(rebasing: rows[($0 * some)..<(($0 + 1) * some)]) }
                        guard let step else {
                            // What a rule goes by in the next round is this one's change.
                            for index in 0..<some { slots[0][index] = mean[index] - walk.row(0)[index] }
                            return true
                        }
                        for (index, slot) in slots.enumerated() {
                            if remembered.isEmpty {
                                slot.update(repeating: step.initial[index])
                            } else {
                                _ = slot.update(fromContentsOf: walk.row(index + 1))
                            }
                        }
                        if isTrained { step.apply(from: walk.row(0), to: mean, slots: slots) }
                        return mean.allSatisfy(\.isFinite)
                    }
                }
                guard isFinite else {
                    throw Diverged(
                        message:
                            "the server's own step made weights that are no numbers in round \(round.session.round + 1): lower server_lr or lr"
                    )
                }
                try await slots.write(rows, each: some)
                position += some
            }
            let stored = try await slots.finish()
            knownSlots = stored.slots.map { (stored.reference.sha256, $0) }
            var state = step?.state ?? OuterState()
            state.slots = stored.reference
            return state
        } catch {
            await slots.abort()
            throw error
        }
    }

    /// The root mean square of the round's change.
    private func size(of values: [Float], _ round: Round) async throws -> Double {
        let walk = UpdateWalk([try await startSource(round)], values: round.trainedCount, width: sliceWidth)
        var (squares, position) = (0.0, 0)
        while position < round.trainedCount {
            let some = min(sliceWidth, round.trainedCount - position)
            try await walk.next(some, isModel: true, isolation: self)
            for (value, start) in zip(values[position..<(position + some)], walk.row(0)) {
                let change = Double(value) - Double(start)
                squares += change * change
            }
            position += some
        }
        return position > 0 ? (squares / Double(position)).squareRoot() : 0
    }

    /// Checks the hash of the stored slots by reading them once as a whole; later they are read by slices.
    func checkSlots(_ names: [String], _ round: Round) async throws {
        guard !names.isEmpty, let reference = round.session.outer?.slots, knownSlots?.sha256 != reference.sha256 else { return }
        knownSlots = nil
        if names.count * round.modelCount <= maxKept {
            let slots = try SlotsFile.decode(try await objects.get(reference.key), model: round.layout.model, names: names)
            knownSlots = (reference.sha256, slots)
            return
        }
        let header = try SlotsFile.header(round.layout.model, names)
        var (digest, bytes, beginning) = (SHA256(), 0, [UInt8]())
        for try await chunk in try await objects.read(reference.key, from: 0) {
            digest.update(data: chunk)
            bytes += chunk.count
            if beginning.count < header.count { beginning += chunk.prefix(header.count - beginning.count) }
        }
        guard beginning == header, bytes == header.count + 4 * names.count * round.modelCount,
            digest.finalize().hexadecimal == reference.sha256
        else {
            throw CohortError(.internal, "what the server remembers in \(reference.key) is not what was stored, or of another model")
        }
    }

    /// Sources of the slots, in the order of `names`; empty in the first round.
    func slotSources(_ names: [String], _ round: Round) async throws -> [UpdateSource] {
        guard let reference = round.session.outer?.slots else { return [] }
        if let knownSlots, knownSlots.sha256 == reference.sha256 {
            return knownSlots.slots.map { UpdateSource($0, of: nil, values: round.modelCount) }
        }
        var sources: [UpdateSource] = []
        let beginning = try SlotsFile.header(round.layout.model, names).count
        for index in names.indices {
            sources.append(
                try await UpdateSource(
                    numbers: round.modelCount, at: beginning + 4 * index * round.modelCount, of: reference.key, in: objects))
        }
        return sources
    }
}
