import CohortCore
import Crypto
import FoundationEssentials

/// Makes a peer's TRAIN from the session's document.
struct TrainCommandBuilder {
    /// A schema whose JSON is larger travels as an object.
    static let largestInlineSchema = 24 << 10

    let session: Session
    let objects: any ObjectStore
    let configuration: CoordinatorConfiguration

    func command(for peer: SessionPeer, timeLimit: Double?) async throws -> TrainCommand {
        guard let dataset = session.dataset, let model = session.model else {
            throw CohortError(.internal, "session \(session.id) trains without a data set")
        }
        let isEvaluation = session.round >= session.settings.rounds
        let expiry = Date().addingTimeInterval(configuration.linkSeconds)
        var hyperparameters = session.settings.hyperparameters(peerId: peer.id, name: peer.name)
        if isEvaluation { hyperparameters.epochs = 0 }
        var command = TrainCommand(
            csvLink: dataset.csvLink, hyperparameters: hyperparameters, sessionId: session.id, generation: session.generation,
            round: session.round, csvUrl: try await objects.presignedGet(dataset.object.key, expiry: expiry),
            csvSha256: dataset.object.sha256, csvBytes: dataset.object.bytes, model: model, optimizer: session.settings.optimizer,
            seed: seed(of: peer), modelSeed: session.settings.seed, schema: dataset.schema,
            rows: RowAssignment(seed: session.settings.seed, ranges: peer.rows))
        try await carrySchema(dataset.schema, expiry, &command)
        command.validationRows = peer.validationRows
        if let weights = session.weights {
            command.weightsUrl = try await objects.presignedGet(weights.key, expiry: expiry)
            command.weightsSha256 = weights.sha256
        }
        if !isEvaluation {
            let key = "updates/\(session.id)/g\(session.generation)-r\(session.round)-\(peer.id).safetensors"
            command.updateKey = key
            command.updateUrl = try await objects.presignedPut(key, expiry: expiry)
            command.timeLimit = timeLimit
            if session.settings.strategy == "independent" {
                command.evaluateAfter = true
                command.earlyStopping = session.settings.earlyStopping
            }
        }
        return command
    }

    /// From the session's seed, the round and the peer's place among those of the session by name: not from its random id.
    private func seed(of peer: SessionPeer) -> UInt64 {
        let names = session.peers.map { "\($0.name)/\($0.id)" }.sorted()
        let place = names.firstIndex(of: "\(peer.name)/\(peer.id)") ?? 0
        var generator = SeededGenerator(seed: session.settings.seed, purpose: "peer/\(place)/\(session.round)")
        // A JSON number that every language holds exactly.
        return generator.next() >> 11
    }

    private func carrySchema(_ schema: TableSchema, _ expiry: Date, _ command: inout TrainCommand) async throws {
        let bytes = try CohortJSON.encode(schema)
        guard bytes.count > Self.largestInlineSchema else { return }
        let key = "schemas/\(session.id).json"
        command.schema = nil
        command.schemaSha256 = SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        if try await objects.head(key) == nil { _ = try await objects.put(bytes, key: key) }
        command.schemaUrl = try await objects.presignedGet(key, expiry: expiry)
    }
}
