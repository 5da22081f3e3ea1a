import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import FoundationEssentials

/// The checks before a file is uploaded and peers are claimed.
struct Preflight {
    let file: String
    let settings: SessionSettings
    let output: String?
    /// A custom module.
    var module: ModuleOption?

    /// Bytes; of a larger file the server alone says whether it can be trained on.
    private static let maxInspectedBytes = 256 << 20

    /// - Returns: the file's SHA-256, lowercase hexadecimal, and the module's file, if there is one.
    /// - Throws: ``CohortError`` `invalid`, with what is wrong and what would be right.
    func run() async throws -> (sha256: String, module: ModuleOption.File?) {
        if let output { try Self.checkWritable(output, mixes: true) }
        let digest = try await FileDigest(of: file)
        var made: ModuleOption.File?
        if let module {
            made = try await module.file(for: try schema())
        } else if digest.bytes <= Self.maxInspectedBytes, settings.from == nil {
            // How a model that training goes on from reads the columns is the server's to say.
            try inspect()
        }
        return (digest.sha256, made)
    }

    /// Infers the schema as the server will, from the same rows.
    private func schema() throws -> TableSchema {
        var options = settings.dataOptions
        // Its hash is known once it is described, for which the columns are needed.
        if module != nil { options.keepsConstant = true }
        let schema = try SchemaInference.infer(
            csvAt: file, target: settings.target, task: settings.task, validation: settings.validation, seed: settings.seed,
            options: options
        ).schema
        try settings.check(for: schema)
        return schema
    }

    private func inspect() throws {
        let schema = try schema()
        try ModelSpec(
            inputs: schema.featureCount, hidden: settings.hidden, outputs: schema.outputCount, activation: settings.activation,
            dropout: settings.dropout, task: schema.task
        ).check()
    }

    /// A model that cannot be written at the end is found at the beginning.
    /// - Parameter mixes: messages for people, or lines of JSON, go to standard output as well.
    static func checkWritable(_ path: String, mixes: Bool = false) throws {
        let place = try OutputPlace(path)
        if mixes, place.isStandardOutput {
            throw CohortError(
                .invalid,
                "-o \(path) would write the model between the messages; name a file, or get it later with `cohort model SESSION -o -`")
        }
    }
}
