import CohortCore
import CohortStrategies
import CohortTraining
import Crypto
import FoundationEssentials

/// Reads peers' updates from the object store: large ones a piece at a time, small ones once.
struct UpdateReader {
    /// Parameters of updates that were looked at and wait for their round to close, at most.
    private static let mostKept = 4 << 20

    private let objects: any ObjectStore
    /// The round's weights.
    private var known: (sha256: String, parameters: [Float])?
    /// By key.
    private var kept: [String: [Float]] = [:]

    init(_ objects: any ObjectStore) { self.objects = objects }

    /// Looks an update through before it counts.
    /// - Returns: the norm of its step from the round's weights; nil when there is no update to look at (an evaluation).
    /// - Throws: ``CohortError`` `invalid` with what is wrong with it; `notFound` when it was never uploaded.
    mutating func inspect(_ event: DoneEvent, of session: Session) async throws -> Double? {
        guard session.round < session.settings.rounds else { return nil }
        guard let model = session.model else { return nil }
        guard let update = event.update else { throw CohortError(.invalid, "DONE names no update") }
        let expected = "updates/\(session.id)/g\(event.generation)-r\(event.round)-\(event.peerId).safetensors"
        guard update.key == expected else { throw CohortError(.invalid, "the update's key is '\(update.key)'; it must be '\(expected)'") }
        guard event.results.samples >= 0, event.results.epochs >= 0, event.results.seconds.isFinite else {
            throw CohortError(.invalid, "the results' samples, epochs or seconds cannot be")
        }
        var inspection = UpdateInspection(start: try await start(of: session, model))
        let keeps = event.updateData != nil || (kept.count + 1) * model.parameterCount <= Self.mostKept
        var parameters: [Float] = []
        if keeps { parameters.reserveCapacity(model.parameterCount) }
        var digest = SHA256()
        var stream = WeightsStream(spec: model)
        func take(_ chunk: [UInt8]) throws {
            digest.update(data: chunk)
            try stream.feed(chunk) { values in
                try inspection.feed(values)
                if keeps { parameters += values }
            }
        }
        if let data = event.updateData {
            guard data.count <= TrainCommandBuilder.largestInlineWeights else {
                throw CohortError(
                    .invalid, "update_data has \(data.count) bytes; more than \(TrainCommandBuilder.largestInlineWeights) go to update_url")
            }
            try take([UInt8](data))
        } else {
            for try await chunk in try await objects.read(update.key, from: 0) { try take(chunk) }
        }
        try stream.finish()
        let sha256 = digest.finalize().map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        guard sha256 == update.sha256.lowercased() else {
            throw CohortError(.invalid, "the update's SHA-256 is \(sha256); DONE says \(update.sha256)")
        }
        if keeps { kept[update.key] = parameters }
        return inspection.norm
    }

    /// Takes over updates that came in messages.
    mutating func restore(_ answers: [RecordedAnswer], model: ModelSpec?) throws {
        guard let model else { return }
        for recorded in answers {
            guard let key = recorded.answer.update?.key, let data = recorded.updateData else { continue }
            kept[key] = try Weights.decode([UInt8](data), spec: model)
        }
    }

    /// The file of the round's weights, when it is small and still at hand.
    func smallFile(of weights: ObjectReference, _ model: ModelSpec) throws -> Data? {
        guard weights.bytes <= TrainCommandBuilder.largestInlineWeights, let known, known.sha256 == weights.sha256 else { return nil }
        return Data(try Weights.encode(model, known.parameters))
    }

    private mutating func start(of session: Session, _ model: ModelSpec) async throws -> [Float] {
        guard let weights = session.weights else { return initialParameters(model, seed: session.settings.seed) }
        if let known, known.sha256 == weights.sha256 { return known.parameters }
        let parameters = try Weights.decode(try await objects.get(weights.key), spec: model)
        known = (weights.sha256, parameters)
        return parameters
    }

    /// Makes the round's global weights and stores them. Peers come in the order of the session's document, whenever they answered: the same
    /// answers give the same bits.
    mutating func aggregate(_ outcome: RoundOutcome, of session: Session) async throws -> ObjectReference {
        guard let model = session.model else { throw CohortError(.internal, "there is no model to aggregate") }
        func key(_ peerId: String) throws -> String {
            guard let update = session.peers.first(where: { $0.id == peerId })?.answer?.update else {
                throw CohortError(.internal, "peer \(peerId)'s accepted update is missing")
            }
            return update.key
        }
        // The generation is in its name: a coordinator that was fenced off writes none of its successor's.
        let target = "checkpoints/\(session.id)/g\(session.generation)-r\(session.round).safetensors"
        switch outcome {
        case .select(let peerId):
            let key = try key(peerId)
            defer { kept = [:] }
            if let parameters = kept[key] { return try await objects.put(try Weights.encode(model, parameters), key: target) }
            return try await objects.put(try await objects.get(key), key: target)
        case .average(let shares):
            let parameters = try await mean(of: shares.map { (key: try key($0.peerId), weight: $0.weight) }, model)
            let weights = try await objects.put(try Weights.encode(model, parameters), key: target)
            known = (weights.sha256, parameters)
            kept = [:]
            return weights
        }
    }

    private func mean(of updates: [(key: String, weight: Double)], _ model: ModelSpec) async throws -> [Float] {
        var mean = WeightedMean(parameterCount: model.parameterCount)
        for update in updates {
            mean.begin(weight: update.weight)
            if let parameters = kept[update.key] {
                try mean.feed(parameters)
                continue
            }
            var stream = WeightsStream(spec: model)
            for try await chunk in try await objects.read(update.key, from: 0) {
                try stream.feed(chunk) { try mean.feed($0) }
            }
            try stream.finish()
        }
        return mean.mean
    }

    /// Writes the model file.
    func conclude(_ session: Session, weights: ObjectReference, metrics: Metrics) async throws -> ObjectReference {
        guard let model = session.model, let schema = session.dataset?.schema else {
            throw CohortError(.internal, "there is no model to write")
        }
        let parameters = try Weights.decode(try await objects.get(weights.key), spec: model)
        let file = ModelFile(spec: model, schema: schema, metrics: metrics, sessionId: session.id, parameters: parameters)
        return try await objects.put(try file.encode(), key: "models/\(session.id).safetensors")
    }
}
