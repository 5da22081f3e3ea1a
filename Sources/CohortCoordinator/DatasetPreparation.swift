import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials

/// Looks through an uploaded CSV, stores it as an object, and tells what a model for it looks like.
struct DatasetPreparation {
    let session: Session
    let objects: any ObjectStore

    /// - Throws: ``CohortError`` `invalid` when the data cannot be trained on, with line and column.
    func run() async throws -> (DatasetInfo, ModelSpec) {
        guard let path = session.uploadPath, FileManager.default.fileExists(atPath: path) else {
            throw CohortError(.internal, "the uploaded file is gone from the server's disk")
        }
        let settings = session.settings
        let finding = try await onOwnThread { shouldContinue in
            try SchemaInference.infer(
                csvAt: path, target: settings.target, task: settings.task, validation: settings.validation, seed: settings.seed,
                options: settings.data ?? DataOptions(), shouldContinue: shouldContinue)
        }
        let schema = finding.schema
        _ = try settings.classWeight?.weights(of: schema)  // Said now, if it cannot be.
        let model = ModelSpec(
            inputs: schema.featureCount, hidden: settings.hidden, outputs: schema.outputCount, activation: settings.activation,
            dropout: settings.dropout, task: schema.task)
        try model.check()
        // Its own from the start on: made again after a crash, it is the same object.
        let key = session.datasetKey ?? "\(session.id).csv"
        // The upload stays where it is until the session is over: a crash in between starts this anew.
        let object = try await objects.put(copyOf: path, key: key)
        let table = try await SchemaObject(of: schema, sessionId: session.id, in: objects)
        return (
            DatasetInfo(
                filename: session.filename, csvLink: "s3://\(objects.bucket)/\(key)", object: object, schema: schema,
                schemaObject: table.reference, warnings: finding.warnings), model
        )
    }
}

extension ObjectStore {
    /// Stores a file that stays: by way of a hard link, which `put` may move away; a copy where links cannot be.
    fileprivate func put(copyOf path: String, key: String) async throws -> ObjectReference {
        let link = "\(path).object"
        try? FileManager.default.removeItem(atPath: link)  // Of an earlier attempt.
        do {
            try FileManager.default.linkItem(atPath: path, toPath: link)
        } catch {
            try FileManager.default.copyItem(atPath: path, toPath: link)
        }
        defer { try? FileManager.default.removeItem(atPath: link) }  // Gone already where `put` moved it.
        return try await put(fileAt: link, key: key)
    }
}
