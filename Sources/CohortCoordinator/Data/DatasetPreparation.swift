import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import FoundationEssentials

/// Inspects an uploaded CSV and describes the model for it.
struct DatasetPreparation {
    let session: Session
    let objects: any ObjectStore
    let files: DataFileLoader
    /// The folder of the file that a large table needs while it is packed.
    let scratchFolder: String
    /// Bytes that averaging the session's updates may take.
    let modelMemory: Int

    /// - Throws: ``CohortError`` `invalid` when the data cannot be trained on, with line and column; `notFound` when it is gone.
    /// - Returns: the weights that round 0 starts from as well; nil: fresh ones; and the table.
    func run() async throws -> (DatasetInfo, ModelSpec, ObjectReference?, StoredTable) {
        guard let upload = session.upload else {
            throw CohortError(
                .notFound, "the session was begun by an older version of the server, which kept its file elsewhere: start it again")
        }
        let file = try await files.file(of: upload)
        let settings = session.settings
        let start = try await startingModel()
        let finding = try await onOwnThread { shouldContinue in
            try SchemaInference.infer(
                csvAt: file.path, target: settings.target, task: settings.task, validation: settings.validation, seed: settings.seed,
                options: settings.dataOptions, model: start?.schema, shouldContinue: shouldContinue)
        }
        let schema = finding.schema
        try settings.check(for: schema)  // Fail early on invalid settings.
        let given = try await givenModule()
        var model = ModelSpec(
            inputs: schema.featureCount, hidden: settings.hidden, outputs: schema.outputCount, activation: settings.activation,
            dropout: settings.dropout, task: schema.task, module: given?.about.module ?? start?.spec.module)
        if model.module != nil { (model.hidden, model.activation, model.dropout) = ([], .relu, 0) }
        if let given { try given.about.check(for: schema) }
        try model.check()
        let needed = model.aggregationBytes(streams: settings.optimizer.streamNames.count)
        guard needed <= modelMemory else {
            throw CohortError(
                .invalid,
                "a model of \(model.parameterCount) parameters needs \(needed >> 20) MiB on the server, which gives a session \(modelMemory >> 20) MiB at most (COHORT_MODEL_MEMORY): choose smaller hidden layers"
            )
        }
        var weights: ObjectReference?
        if let parameters = try given?.parameters ?? start.map({ try Self.parameters(of: $0, for: model, schema) }) {
            weights = try await objects.put(try Weights.encode(model, parameters), key: "\(session.checkpointPrefix)start.safetensors")
        }
        if let module = given?.module ?? start?.module {
            _ = try await objects.put(module, key: Self.moduleKey(session.id))
        }
        async let schemaObject = SchemaObject(of: schema, sessionId: session.id, in: objects)
        let table = try await storeTable(of: finding, csvAt: file.path)
        await files.release()
        return (
            DatasetInfo(
                filename: session.filename, csvLink: "s3://\(objects.bucket)/\(upload.key)", object: upload, schema: schema,
                schemaObject: try await schemaObject.reference, warnings: finding.warnings), model, weights, table
        )
    }

    /// Packs the rows and stores them in parts: training rows in the order of the session's seed, then held-out rows.
    private func storeTable(of finding: SchemaInference.Finding, csvAt path: String) async throws -> StoredTable {
        let (schema, values, seed, folder) = (finding.schema, finding.values, session.settings.seed, scratchFolder)
        let (packer, plan) = try await onOwnThread { shouldContinue in
            if let reason = createPrivateFolder(folder) {
                throw CohortError(.internal, "the folder \(folder) could not be created: \(reason)")
            }
            let plan = RecordPlan(schema, values)
            let packer = try TablePacker(
                csvAt: path, schema: schema, plan: plan, seed: seed, folder: folder, shouldContinue: shouldContinue)
            return (packer, plan)
        }
        return try await StoredTable.store(packer, plan: plan, schema: schema, sessionId: session.id, in: objects)
    }

    /// The key of a session's module, from which its peers load it.
    static func moduleKey(_ sessionId: String) -> String { "\(Session.checkpointPrefix(of: sessionId))module" }

    /// The module that the session was started with.
    /// - Throws: ``CohortError`` `notFound` when it was deleted since, `invalid` for a file that is none.
    private func givenModule() async throws -> ModuleFile? {
        guard let object = session.moduleObject else { return nil }
        let bytes: [UInt8]
        do {
            bytes = try await objects.get(object.key)
        } catch let error as CohortError where error.code == .notFound {
            throw CohortError(.notFound, "the module \(object.sha256.prefix(12)) was deleted before the session began")
        }
        return try await onOwnThread { _ in try ModuleFile.decode(bytes) }
    }

    /// The model that the session goes on from.
    /// - Throws: ``CohortError`` `notFound` when it was deleted since.
    private func startingModel() async throws -> ModelFile? {
        guard let object = session.startModel else { return nil }
        let bytes: [UInt8]
        do {
            bytes = try await objects.get(object.key)
        } catch let error as CohortError where error.code == .notFound {
            throw CohortError(.notFound, "the model to go on from, of session \(session.settings.from ?? ""), was deleted")
        }
        return try await onOwnThread { _ in try ModelFile.decode(bytes) }
    }

    /// Its weights, with the inputs in the order of the new file's columns.
    private static func parameters(of start: ModelFile, for model: ModelSpec, _ schema: TableSchema) throws -> [Float] {
        guard model == start.spec else {
            throw CohortError(.internal, "the model to go on from has another shape than its session's document says")
        }
        guard let order = schema.featureOrder(in: start.schema) else { return start.parameters }
        guard model.module == nil else {
            let names = start.schema.columns.filter { $0.featureCount > 0 }.map(\.name)
            throw CohortError(
                .invalid,
                "the columns must be in the order in which the module that training goes on from knows them: \(names.prefix(20).joined(separator: ", "))\(names.count > 20 ? ", …" : "")"
            )
        }
        var parameters = start.parameters
        let inputs = model.inputs
        for row in 0..<model.widths[1] {
            for (place, other) in order.enumerated() { parameters[row * inputs + place] = start.parameters[row * inputs + other] }
        }
        return parameters
    }
}
