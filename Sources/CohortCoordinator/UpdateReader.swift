import CohortCore
import CohortStrategies
import CohortSystem
import CohortTraining
import Crypto
import FoundationEssentials

/// Reads one session's updates from the object store: large ones a piece at a time, small ones once. Hashing, checking and averaging run on
/// the coordinator's thread for them, never on the cooperative pool.
actor UpdateReader {
    /// Parameters of updates that were inspected and wait for their round to close, at most.
    private static let maxKept = 4 << 20

    private let objects: any ObjectStore
    private let executor: ThreadExecutor
    /// The round's weights, by their hash; the initial ones by an empty one.
    private var known: (sha256: String, parameters: [Float])?
    /// What was inspected, by key: exactly those bytes.
    private var kept: [String: (sha256: String, parameters: [Float])] = [:]

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// An accepted update that is not what was accepted.
    struct Changed: Error {
        let peerId: String
        let why: String
    }

    init(_ objects: any ObjectStore, on executor: ThreadExecutor) {
        self.objects = objects
        self.executor = executor
    }

    static func key(sessionId: String, generation: Int, round: Int, attempt: Int, peerId: String) -> String {
        "updates/\(sessionId)/g\(generation)-r\(round)-a\(attempt)-\(peerId).safetensors"
    }

    /// Inspects an update before it counts.
    /// - Parameters:
    ///   - attempt: that the peer was asked for.
    ///   - collects: whether the parameters are wanted.
    /// - Returns: the norm of its step from the round's weights, and its parameters; nil when there is no update to inspect (an evaluation).
    /// - Throws: ``CohortError`` `invalid` with what is wrong with it; `notFound` when it was never uploaded.
    func inspect(
        _ event: DoneEvent, attempt: Int, of session: Session, collects: Bool = false
    ) async throws -> (norm: Double, parameters: [Float])? {
        guard session.round < session.settings.rounds else { return nil }
        guard let model = session.model else { return nil }
        guard let update = event.update else { throw CohortError(.invalid, "DONE names no update") }
        let expected = Self.key(
            sessionId: session.id, generation: event.generation, round: event.round, attempt: attempt, peerId: event.peerId)
        guard update.key == expected else {
            throw CohortError(.invalid, "the update's key is '\(update.key.printable(max: 200))'; it must be '\(expected)'")
        }
        let sha256 = update.sha256.lowercased()
        if let known = kept[update.key], known.sha256 != sha256 { kept[update.key] = nil }
        var inspection = UpdateInspection(start: try await start(of: session, model))
        let keeps = event.updateData != nil || (kept.count + 1) * model.parameterCount <= Self.maxKept
        var parameters: [Float] = []
        if keeps || collects { parameters.reserveCapacity(model.parameterCount) }
        let inline = try event.updateData.map { data in
            guard data.count <= TrainCommandBuilder.largestInlineWeights else {
                throw CohortError(
                    .invalid, "update_data has \(data.count) bytes; more than \(TrainCommandBuilder.largestInlineWeights) go to update_url")
            }
            return [UInt8](data)
        }
        let found = try await feed(update.key, inline, model) { values in
            try inspection.feed(values)
            if keeps || collects { parameters += values }
        }
        guard found == sha256 else {
            throw CohortError(.invalid, "the update's SHA-256 is \(found); DONE says \(update.sha256)")
        }
        if keeps { kept[update.key] = (sha256, parameters) }
        return (inspection.norm, parameters)
    }

    /// Streams an update's values.
    /// - Returns: the SHA-256 of its bytes.
    private func feed(
        _ key: String, _ inline: [UInt8]?, _ model: ModelSpec, _ body: ([Float]) throws -> Void
    ) async throws -> String {
        var digest = SHA256()
        var stream = WeightsStream(spec: model)
        if let inline {
            digest.update(data: inline)
            try stream.feed(inline) { try body($0) }
        } else {
            for try await chunk in try await objects.read(key, from: 0) {
                digest.update(data: chunk)
                try stream.feed(chunk) { try body($0) }
            }
        }
        try stream.finish()
        return digest.finalize().hexadecimal
    }

    /// Takes over updates that came in messages. One that cannot be read is read again when its round closes, and refused then.
    func restore(_ answers: [RecordedAnswer], model: ModelSpec?) {
        guard let model else { return }
        for recorded in answers {
            guard let update = recorded.answer.update, let data = recorded.updateData,
                SHA256.hash(data: data).hexadecimal == update.sha256.lowercased(),
                // Refused, with the reason, when its round closes.
                let parameters = try? Weights.decode([UInt8](data), spec: model)
            else { continue }
            kept[update.key] = (update.sha256.lowercased(), parameters)
        }
    }

    /// The file of the round's weights, when it is small and still at hand.
    func smallFile(of weights: ObjectReference, _ model: ModelSpec) throws -> Data? {
        guard weights.bytes <= TrainCommandBuilder.largestInlineWeights, let known, known.sha256 == weights.sha256 else { return nil }
        return Data(try Weights.encode(model, known.parameters))
    }

    /// The weights that the session's round starts from.
    func parameters(of session: Session) async throws -> [Float]? {
        guard let model = session.model else { return nil }
        return try await start(of: session, model)
    }

    /// Of the weights that the session ends with, which need not be its newest.
    func parameters(of session: Session, weights: ObjectReference) async throws -> [Float]? {
        guard let model = session.model else { return nil }
        if let known, known.sha256 == weights.sha256 { return known.parameters }
        return try Weights.decode(try await objects.get(weights.key), spec: model)
    }

    private func start(of session: Session, _ model: ModelSpec) async throws -> [Float] {
        let sha256 = session.weights?.sha256 ?? ""
        if let known, known.sha256 == sha256 { return known.parameters }
        let parameters =
            if let weights = session.weights {
                try Weights.decode(try await objects.get(weights.key), spec: model)
            } else {
                initialParameters(model, seed: session.settings.seed)
            }
        known = (sha256, parameters)
        return parameters
    }

    /// Makes the round's global weights and stores them. Peers come in the order of the session's document, whenever they answered: the same
    /// answers give the same bits.
    /// - Throws: ``Changed`` when an update is not the one that was accepted.
    func aggregate(
        _ outcome: RoundOutcome, of session: Session
    ) async throws -> (reference: ObjectReference, parameters: [Float]) {
        guard let model = session.model else { throw CohortError(.internal, "there is no model to aggregate") }
        // The generation is in its name: a coordinator that was fenced off writes none of its successor's.
        let target = "checkpoints/\(session.id)/g\(session.generation)-r\(session.round).safetensors"
        let parameters: [Float]
        switch outcome {
        case .select(let peerId):
            parameters = try await mean(of: [Share(peerId: peerId, weight: 1)], session, model)
        case .average(let shares):
            parameters = try await mean(of: shares, session, model)
        case .columns(let rule, let shares):
            parameters = try await columns(rule, of: shares, session, model)
        }
        let weights = try await objects.put(try Weights.encode(model, parameters), key: target)
        known = (weights.sha256, parameters)
        kept = [:]
        return (weights, parameters)
    }

    private func mean(of shares: [Share], _ session: Session, _ model: ModelSpec) async throws -> [Float] {
        let answers = Dictionary(session.peers.map { ($0.id, $0.answer?.update) }, uniquingKeysWith: { first, _ in first })
        var mean = WeightedMean(parameterCount: model.parameterCount)
        // Of a shortened update only a part of its step counts: the rest stays at the weights it started from.
        let rest = shares.reduce(0) { $0 + $1.weight * (1 - $1.scale) }
        if rest > 0 {
            mean.begin(weight: rest)
            try mean.feed(try await start(of: session, model))
        }
        for share in shares {
            guard let answer = answers[share.peerId], let update = answer else {
                throw Changed(peerId: share.peerId, why: "its accepted update is missing")
            }
            mean.begin(weight: share.weight * share.scale)
            let sha256 = update.sha256.lowercased()
            if let kept = kept[update.key], kept.sha256 == sha256 {
                try mean.feed(kept.parameters)
                continue
            }
            do {
                guard try await feed(update.key, nil, model, { try mean.feed($0) }) == sha256 else {
                    throw CohortError(.invalid, "its bytes changed")
                }
            } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
                throw Changed(peerId: share.peerId, why: "its update is not what was accepted: \(error.message)")
            }
        }
        return mean.mean
    }

    /// Reads all updates in lockstep, a piece of each at a time: in memory are one model and those pieces.
    private func columns(
        _ rule: ColumnRule, of shares: [Share], _ session: Session, _ model: ModelSpec
    ) async throws -> [Float] {
        let answers = Dictionary(session.peers.map { ($0.id, $0.answer?.update) }, uniquingKeysWith: { first, _ in first })
        let start = shares.contains { $0.scale != 1 } ? try await start(of: session, model) : []
        var sources: [UpdateSource] = []
        for share in shares {
            guard let answer = answers[share.peerId], let update = answer else {
                throw Changed(peerId: share.peerId, why: "its accepted update is missing")
            }
            let sha256 = update.sha256.lowercased()
            do {
                if let kept = kept[update.key], kept.sha256 == sha256 {
                    sources.append(UpdateSource(share, kept.parameters))
                } else {
                    sources.append(UpdateSource(share, try await objects.read(update.key, from: 0), sha256: sha256, model))
                }
            } catch let error as CohortError where error.code == .invalid || error.code == .notFound {
                throw Changed(peerId: share.peerId, why: "its update is not what was accepted: \(error.message)")
            }
        }
        var result: [Float] = []
        result.reserveCapacity(model.parameterCount)
        while result.count < model.parameterCount {
            for source in sources where source.values.isEmpty {
                do { try await source.more(isolation: self) } catch let error as CohortError
                    where error.code == .invalid || error.code == .notFound
                {
                    throw Changed(peerId: source.share.peerId, why: "its update is not what was accepted: \(error.message)")
                }
            }
            let count = sources.map(\.values.count).min() ?? 0
            guard count > 0 else { throw CohortError(.internal, "there is nothing to aggregate") }
            let slices = sources.map { source -> ArraySlice<Float> in
                let slice = source.values.prefix(count)
                guard source.share.scale != 1 else { return slice }
                // Of a shortened update only a part of its step counts.
                return ArraySlice(zip(slice, start[result.count...]).map { $1 + Float(source.share.scale) * ($0 - $1) })
            }
            rule.reduce(slices, count: count) { result.append($0) }
            for source in sources { source.values.removeFirst(count) }
        }
        for source in sources {
            do { try await source.end(isolation: self) } catch let error as CohortError where error.code == .invalid {
                throw Changed(peerId: source.share.peerId, why: "its update is not what was accepted: \(error.message)")
            }
        }
        return result
    }

    /// Writes the model file.
    func conclude(
        _ session: Session, weights: ObjectReference, metrics: Metrics, evaluation: Evaluation?
    ) async throws -> ObjectReference {
        guard let model = session.model else {
            throw CohortError(.internal, "there is no model to write")
        }
        let schema = try await SchemaObject(of: session, in: objects).schema
        let parameters = try Weights.decode(try await objects.get(weights.key), spec: model)
        let file = ModelFile(
            spec: model, schema: schema, metrics: metrics, sessionId: session.id, parameters: parameters, evaluation: evaluation,
            origin: ModelOrigin(session))
        return try await objects.put(try file.encode(), key: "models/\(session.id).safetensors")
    }
}

/// An update's values, a piece after the other, hashed as they come.
private final class UpdateSource {
    let share: Share
    /// Read and not used yet.
    var values: ArraySlice<Float> = []
    private var chunks: AsyncThrowingStream<[UInt8], any Error>.AsyncIterator?
    private var stream: WeightsStream?
    private var digest = SHA256()
    private let sha256: String

    /// One that is in memory.
    init(_ share: Share, _ parameters: [Float]) {
        self.share = share
        values = parameters[...]
        sha256 = ""
    }

    init(_ share: Share, _ chunks: AsyncThrowingStream<[UInt8], any Error>, sha256: String, _ model: ModelSpec) {
        self.share = share
        self.chunks = chunks.makeAsyncIterator()
        self.sha256 = sha256
        stream = WeightsStream(spec: model)
    }

    /// - Throws: ``CohortError`` `invalid` when there is no more, though there should be, and for bytes that are no such weights.
    func more(isolation: isolated (any Actor)?) async throws {
        while values.isEmpty {
            guard let chunk = try await chunks?.next(isolation: isolation) else {
                try stream?.finish()
                throw CohortError(.invalid, "the weights end early")
            }
            try take(chunk)
        }
    }

    /// Reads what is behind the values, which should be nothing.
    /// - Throws: ``CohortError`` `invalid` when its bytes are not those that were accepted.
    func end(isolation: isolated (any Actor)?) async throws {
        guard stream != nil else { return }
        while let chunk = try await chunks?.next(isolation: isolation) { try take(chunk) }
        try stream?.finish()
        guard digest.finalize().hexadecimal == sha256 else { throw CohortError(.invalid, "its bytes changed") }
    }

    private func take(_ chunk: [UInt8]) throws {
        digest.update(data: chunk)
        var floats: [Float] = []
        try stream?.feed(chunk) { floats += $0 }
        values += floats
    }
}
