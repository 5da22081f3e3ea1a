import CohortCore
import CohortSession
import CohortTraining

/// The model file of a session.
extension Aggregator {
    /// Writes the model file.
    /// - Throws: ``CohortError`` `internal` for a session without a model.
    func writeModelFile(
        _ session: Session, weights: ObjectReference, metrics: Metrics, evaluation: Evaluation?
    ) async throws -> ObjectReference {
        guard let layout = session.layout(of: weights) else { throw CohortError(.internal, "there is no model to write") }
        let model = layout.model
        let schema = try await SchemaObject(of: session, in: objects).schema
        let parameters = layout.parameters(of: try Weights.decode(try await objects.get(weights.key), layout))
        let file = ModelFile(
            spec: model, schema: schema, metrics: metrics, sessionId: session.id, parameters: parameters, evaluation: evaluation,
            origin: try ModelOrigin(session).map { String(decoding: try CohortJSON.encode($0), as: UTF8.self) },
            module: model.module == nil ? nil : try await objects.get(DatasetPreparation.moduleKey(session.id)))
        return try await objects.put(try file.encode(), key: "models/\(session.id).safetensors")
    }
}
