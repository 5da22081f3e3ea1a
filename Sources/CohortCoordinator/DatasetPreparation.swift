import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials

/// Looks through an uploaded CSV, and tells what a model for it looks like.
struct DatasetPreparation {
    let session: Session
    let objects: any ObjectStore
    let files: DataFileLoader

    /// - Throws: ``CohortError`` `invalid` when the data cannot be trained on, with line and column; `notFound` when it is gone.
    func run() async throws -> (DatasetInfo, ModelSpec) {
        guard let upload = session.upload else {
            throw CohortError(
                .notFound, "the session was begun by an older version of the server, which kept its file elsewhere: start it again")
        }
        let file = try await files.file(of: upload)
        let settings = session.settings
        let finding = try await onOwnThread { shouldContinue in
            try SchemaInference.infer(
                csvAt: file.path, target: settings.target, task: settings.task, validation: settings.validation, seed: settings.seed,
                options: settings.data ?? DataOptions(), shouldContinue: shouldContinue)
        }
        let schema = finding.schema
        _ = try settings.classWeight?.weights(of: schema)  // Said now, if it cannot be.
        let model = ModelSpec(
            inputs: schema.featureCount, hidden: settings.hidden, outputs: schema.outputCount, activation: settings.activation,
            dropout: settings.dropout, task: schema.task)
        try model.check()
        let table = try await SchemaObject(of: schema, sessionId: session.id, in: objects)
        return (
            DatasetInfo(
                filename: session.filename, csvLink: "s3://\(objects.bucket)/\(upload.key)", object: upload, schema: schema,
                schemaObject: table.reference, warnings: finding.warnings), model
        )
    }
}
