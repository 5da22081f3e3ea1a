import CohortCore
import Crypto
import FoundationEssentials

/// Makes peers' TRAIN from the session's document as it is stored.
struct TrainCommandBuilder {
    let session: Session
    let dataset: DatasetInfo
    let model: ModelSpec
    let schema: SchemaObject
    let objects: any ObjectStore
    /// Of the links.
    let expiry: Date

    func command(for peer: SessionPeer, timeLimit: Double?) async throws -> TrainCommand {
        let isEvaluation = session.round >= session.settings.rounds
        var hyperparameters = session.settings.hyperparameters(peerId: peer.id, name: peer.name)
        if isEvaluation { hyperparameters.epochs = 0 }
        var command = TrainCommand(
            csvLink: dataset.csvLink, hyperparameters: hyperparameters, sessionId: session.id, generation: session.generation,
            round: session.round, csvUrl: try await objects.presignedGet(dataset.object.key, expiry: expiry),
            csvSha256: dataset.object.sha256, csvBytes: dataset.object.bytes, model: model, optimizer: session.settings.optimizer,
            seed: seed(of: peer), modelSeed: session.settings.seed, schema: schema.inline,
            rows: RowAssignment(seed: session.settings.seed, ranges: peer.rows))
        command.schemaSha256 = schema.sha256
        command.schemaUrl = try await objects.presignedGet(schema.key, expiry: expiry)
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
        let place = session.peers.count { ($0.name, $0.id) < (peer.name, peer.id) }
        var generator = SeededGenerator(seed: session.settings.seed, purpose: "peer/\(place)/\(session.round)")
        // A JSON number that every language holds exactly.
        return generator.next() >> 11
    }
}

/// How columns become features, as an object that TRAIN names, so that a peer gets it once; a small one stands in the message as well.
struct SchemaObject: Sendable {
    /// Bytes of JSON.
    static let largestInline = 8 << 10

    let key: String
    /// Lowercase hexadecimal.
    let sha256: String
    let inline: TableSchema?

    /// Stores it, if it is not there.
    init(of schema: TableSchema, sessionId: String, in objects: any ObjectStore) async throws {
        let bytes = try CohortJSON.encode(schema)
        inline = bytes.count <= Self.largestInline ? schema : nil
        key = "schemas/\(sessionId).json"
        sha256 = SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        if try await objects.head(key)?.sha256 != sha256 { _ = try await objects.put(bytes, key: key) }
    }
}
