public import CohortCore
import SystemPackage

/// A trained model as one `.safetensors` file: the tensors of PyTorch's `nn.Sequential`, and in `__metadata__` as JSON texts the model's
/// `spec`, the `schema` that turns raw rows into features, the `metrics` and `evaluation`, and the `origin`: docs/model-file.md has them all.
public struct ModelFile: Hashable, Sendable {
    public var spec: ModelSpec
    public var schema: TableSchema
    /// The metrics on the validation rows.
    public var metrics: Metrics?
    public var sessionId: String?
    /// The detailed measurement on the validation rows.
    public var evaluation: Evaluation?
    /// The run that made it, as a JSON text: a room that knows no sessions carries it unread.
    public var origin: String?
    /// Flat, in the order of ``ModelSpec/tensors``.
    public var parameters: [Float]
    /// The file of ``ModelSpec/module``.
    public var module: [UInt8]?

    public init(
        spec: ModelSpec, schema: TableSchema, metrics: Metrics?, sessionId: String?, parameters: [Float], evaluation: Evaluation? = nil,
        origin: String? = nil, module: [UInt8]? = nil
    ) {
        self.module = module
        self.evaluation = evaluation
        self.origin = origin
        self.spec = spec
        self.schema = schema
        self.metrics = metrics
        self.sessionId = sessionId
        self.parameters = parameters
    }

    public func encode() throws -> [UInt8] {
        var metadata = [
            "format": "cohort/1",
            "spec": String(decoding: try CohortJSON.encode(spec), as: UTF8.self),
            "schema": String(decoding: try CohortJSON.encode(schema), as: UTF8.self),
        ]
        if let metrics { metadata["metrics"] = String(decoding: try CohortJSON.encode(metrics), as: UTF8.self) }
        if let sessionId { metadata["session_id"] = sessionId }
        if let evaluation { metadata["evaluation"] = String(decoding: try CohortJSON.encode(evaluation), as: UTF8.self) }
        if let origin { metadata["origin"] = origin }
        return try Safetensors.encode(
            spec.tensors, parameters, metadata: metadata, bytes: module.map { (ModuleFile.bytesName, $0) })
    }

    /// - Throws: ``CohortError`` `invalid` when it is not a whole model file of Cohort's.
    public static func decode(_ bytes: [UInt8]) throws -> ModelFile {
        let needed = try Safetensors.headerBytes(bytes, limit: Safetensors.maxModelHeader)
        guard bytes.count >= needed else { throw CohortError(.invalid, "the .safetensors file ends within its header") }
        let header = try Safetensors(header: bytes[..<needed], allowsBytes: true)
        guard header.metadata["format"] != ModuleFile.format else {
            throw CohortError(.invalid, "this is a module that was not trained yet: `cohort train --model` trains it")
        }
        func part<Value: Decodable>(_ name: String, _ type: Value.Type) throws -> Value {
            guard let text = header.metadata[name] else {
                throw CohortError(.invalid, "the file's metadata has no '\(name)': it is not a model file of Cohort's")
            }
            do {
                return try CohortJSON.decode(type, from: text.utf8)
            } catch let error as CohortError {
                throw CohortError(.invalid, "the file's metadata '\(name)' cannot be read: \(error.message)")
            }
        }
        let spec = try part("spec", ModelSpec.self)
        try spec.check()
        let schema = try part("schema", TableSchema.self)
        try schema.check()
        guard schema.featureCount == spec.inputs, schema.outputCount == spec.outputs, schema.task == spec.task else {
            throw CohortError(.invalid, "the file's schema and its net do not fit: \(schema.featureCount) features, \(spec.inputs) inputs")
        }
        return ModelFile(
            spec: spec, schema: schema, metrics: header.metadata["metrics"] == nil ? nil : try part("metrics", Metrics.self),
            sessionId: header.metadata["session_id"],
            parameters: spec.module == nil ? try Weights.decode(bytes, spec: spec) : try header.floats(spec.tensors, in: bytes),
            evaluation: header.metadata["evaluation"] == nil ? nil : try part("evaluation", Evaluation.self),
            origin: header.metadata["origin"],
            module: try spec.module.map { try ModuleFile.bytes(of: $0, header, in: bytes) })
    }

    public static func read(_ path: String) throws -> ModelFile {
        do {
            let file = try FileDescriptor.open(path, .readOnly)
            return try file.closeAfter {
                // The header has its length: another file, however large, is not read.
                let size = try Int(file.seek(offset: 0, from: .end))
                let start = try file.bytes(8)
                let header = try Safetensors(
                    header: file.bytes(min(size, Safetensors.headerBytes(start, limit: Safetensors.maxModelHeader)))[...], allowsBytes: true
                )
                guard header.fileBytes == size else {
                    throw CohortError(.invalid, "the file has \(size) bytes where its header says \(header.fileBytes): it is not whole")
                }
                return try decode(file.bytes(size))
            }
        } catch let error as CohortError {
            throw CohortError(error.code, "\(path): \(error.message)")
        } catch {
            throw CohortError(.invalid, "\(path) cannot be read: \(error)")
        }
    }
}

extension FileDescriptor {
    /// Returns the first bytes, at most as many as the file has.
    func bytes(_ count: Int) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while initialized < count {
                let rest = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: buffer[initialized..<count]))
                let more = try read(fromAbsoluteOffset: Int64(initialized), into: rest)
                if more == 0 { break }
                initialized += more
            }
        }
    }
}
