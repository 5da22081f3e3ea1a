import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials

/// The inspection of each update before it counts.
extension Aggregator {
    /// Inspects an update before it counts.
    /// - Parameters:
    ///   - attempt: that the peer was asked for.
    ///   - collects: whether the parameters are wanted.
    /// - Returns: the norms of its step from the round's weights and of its streams, and its parameters; nil when there is no update to inspect (an evaluation).
    /// - Throws: ``CohortError`` `invalid` with what is wrong with it; `notFound` when it was never uploaded.
    func inspect(
        _ event: DoneEvent, attempt: Int, of session: Session, collects: Bool = false
    ) async throws -> (norm: Double, streamNorms: [String: Double], parameters: [Float])? {
        guard session.round < session.settings.rounds else { return nil }
        guard let startLayout = session.layout, let layout = session.updateLayout else { return nil }
        guard let update = event.update else { throw CohortError(.invalid, "DONE names no update") }
        let expected = Self.key(
            session, generation: event.generation, round: event.round, attempt: attempt, peerId: event.peerId)
        guard update.key == expected else {
            throw CohortError(.invalid, "the update's key is '\(update.key.printable(max: 200))'; it must be '\(expected)'")
        }
        let sha256 = update.sha256.lowercased()
        if let known = kept[update.key], known.sha256 != sha256 { kept[update.key] = nil }
        // Before anything of the model's size is allocated.
        let bytes = if let data = event.updateData { data.count } else { try await objects.size(of: update.key) ?? 0 }
        guard UpdateFile.sizes(layout).contains(bytes) else {
            guard bytes > 0 else { throw CohortError(.notFound, "there is no object \(update.key)") }
            let sizes = UpdateFile.sizes(layout)
            throw CohortError(
                .invalid, "the update has \(bytes) bytes; one of this model has from \(sizes.lowerBound) to \(sizes.upperBound)")
        }
        let start = try await start(of: session, startLayout)
        var inspection = UpdateInspection(layout, start: start)
        let keeps = event.updateData != nil || kept.values.reduce(bytes) { $0 + $1.chunks.reduce(0) { $0 + $1.count } } <= 4 * maxKept
        var chunks: [[UInt8]] = []
        let inline = try event.updateData.map { data in
            guard data.count <= TrainCommandBuilder.maxInlineWeightsBytes else {
                throw CohortError(
                    .invalid, "update_data has \(data.count) bytes; more than \(TrainCommandBuilder.maxInlineWeightsBytes) go to update_url"
                )
            }
            return [UInt8](data)
        }
        // The complete update, or as much of it as is inspected at a time.
        var parameters = [Float](repeating: 0, count: collects ? layout.count : min(layout.count, sliceWidth))
        var position = 0
        let found = try await read(update.key, sha256: sha256, inline: inline, layout: layout) { chunk, stream in
            if keeps { chunks.append(chunk) }
            stream.append(chunk)
            var some = 0
            repeat {
                some = try parameters.withUnsafeMutableBufferPointer { parameters in
                    let room = UnsafeMutableBufferPointer(rebasing: collects ? parameters[position...] : parameters[...])
                    let some = try stream.read(into: room)
                    let change = stream.isChange ? min(some, layout.model.parameterCount - position) : 0
                    if change > 0 {
                        start[position..<(position + change)].withUnsafeBufferPointer {
                            UpdateFile.add($0, to: UnsafeMutableBufferPointer(rebasing: room[..<change]))
                        }
                    }
                    try inspection.feed(UnsafeBufferPointer(rebasing: room[..<some]))
                    return some
                }
                position += some
            } while some > 0
        }
        guard found == sha256 else {
            throw CohortError(.invalid, "the update's SHA-256 is \(found); DONE says \(update.sha256)")
        }
        if let inline, session.settings.keepUpdates == true { _ = try await objects.put(inline, key: update.key) }
        if keeps { kept[update.key] = (sha256, chunks) }
        return (inspection.norm, inspection.streamNorms, collects ? layout.parameters(of: parameters) : [])
    }

    /// Reads an update as its bytes come.
    /// - Parameters:
    ///   - sha256: of its bytes, as the peer said it.
    ///   - body: gives the stream what has come, and takes its numbers.
    /// - Returns: the SHA-256 of its bytes.
    private func read(
        _ key: String, sha256: String, inline: [UInt8]?, layout: WeightsLayout, _ body: ([UInt8], inout WeightsStream) throws -> Void
    ) async throws -> String {
        var stream = WeightsStream(layout, allowsChange: true)
        if let inline {
            try body(inline, &stream)
            try stream.finish()
            return SHA256.hash(data: inline).hexadecimal
        }
        let (stored, chunks) = try await objects.readVerified(key)
        // Hashed here only where the store does not check the same hash.
        var digest = stored == sha256 ? nil : SHA256()
        for try await chunk in chunks {
            digest?.update(data: chunk)
            try body(chunk, &stream)
        }
        try stream.finish()
        return digest?.finalize().hexadecimal ?? sha256
    }

    /// Takes over updates that came in messages. One that cannot be read is read again when its round closes, and refused then.
    func restore(_ answers: [RecordedAnswer], of session: Session) async throws {
        guard let startLayout = session.layout, let layout = session.updateLayout, answers.contains(where: { $0.updateData != nil })
        else { return }
        let start = try await start(of: session, startLayout)
        for recorded in answers {
            guard let update = recorded.answer.update, let data = recorded.updateData,
                SHA256.hash(data: data).hexadecimal == update.sha256.lowercased(),
                // Refused, with the reason, when its round closes.
                (try? UpdateFile.decode([UInt8](data), layout, start: start)) != nil
            else { continue }
            kept[update.key] = (update.sha256.lowercased(), [[UInt8](data)])
        }
    }
}
