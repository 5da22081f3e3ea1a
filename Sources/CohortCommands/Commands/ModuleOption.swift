import CohortClient
import CohortCore
import CohortSystem
import CohortTraining
import Crypto
import FoundationEssentials
import TorchEngine

/// `--model`: a custom module, as torch.jit.save or Python's cohort.save_module wrote it.
struct ModuleOption {
    let path: String
    /// The shape of one row as input of the module; empty: a list of the features.
    let shape: [Int]
    let settings: Settings

    /// A module's file on this machine; one that was made here goes with this value.
    final class File: Sendable {
        let path: String
        let sha256: String
        private let isTemporary: Bool

        init(path: String, sha256: String, isTemporary: Bool) {
            self.path = path
            self.sha256 = sha256
            self.isTemporary = isTemporary
        }

        deinit {
            if isTemporary { try? FileManager.default.removeItem(atPath: path) }  // The system clears what is left there.
        }
    }

    /// - Parameters:
    ///   - shape: such as 1,28,28; nil: that of the rows, where they are tensors.
    ///   - data: the CSV, or tensors.
    /// - Throws: ``CohortError`` `invalid` for a shape that is none.
    init(path: String, shape: String?, data: String, settings: Settings) throws {
        self.path = path
        self.settings = settings
        let own = path.hasSuffix(".safetensors") ? nil : try TensorData.rowShape(at: data)
        self.shape =
            try shape.map { text in
                try text.split(whereSeparator: { $0 == "," || $0 == "x" }).map { part in
                    guard let length = Int(part.filter { $0 != " " }), length > 0 else {
                        throw CohortError(.invalid, "--input-shape is '\(text.printable(max: 60))'; it must be lengths such as 1,28,28")
                    }
                    return length
                }
            } ?? own.flatMap { $0.count > 1 ? $0 : nil } ?? []
    }

    /// - Throws: ``CohortError`` `invalid` for a file that is no module, or one for other data; `unavailable` when PyTorch is needed to look
    ///   into it, and is not here.
    func file(for schema: TableSchema) async throws -> File {
        let start = try await FileDigest(of: path)
        guard !path.hasSuffix(".safetensors") else {
            guard shape.isEmpty else {
                throw CohortError(.invalid, "--input-shape does not go with a .safetensors: that says what its module takes")
            }
            try ModuleFile.about(at: path).check(for: schema)
            return File(path: path, sha256: start.sha256, isTemporary: false)
        }
        guard start.bytes <= ModuleFile.maxBytes, let data = FileManager.default.contents(atPath: path) else {
            throw CohortError(.invalid, "\(path) has \(start.bytes) bytes; a module may have \(ModuleFile.maxBytes)")
        }
        let bytes = [UInt8](data)
        let known = try describe(bytes, schema)
        let about = ModuleFile.About(
            inputs: schema.featureCount, outputs: schema.outputCount, task: schema.task,
            module: ModuleSpec(sha256: start.sha256, inputShape: shape, tensors: known.tensors, trained: known.trained))
        _ = try about.spec()
        let made = try ModuleFile(about: about, parameters: known.weights, module: bytes).encode()
        let place = FileManager.default.temporaryDirectory.appending(path: "cohort-module-\(newIdentifier()).safetensors").path
        let file = File(path: place, sha256: SHA256.hash(data: made).hexadecimal, isTemporary: true)
        try AtomicFile.write(made, to: place)
        return file
    }

    private func describe(_ bytes: [UInt8], _ schema: TableSchema) throws -> (tensors: [TensorSpec], trained: Int?, weights: [Float]) {
        let plugin: TorchPlugin
        let engines = try Engines(settings: settings)
        do {
            plugin = try engines.openPlugin()
        } catch let error as CohortError {
            throw CohortError(
                error.code,
                "\(path) can be looked into by PyTorch alone, and \(error.message). Python can do it too: cohort.save_module(module, 'net.safetensors') writes a file that --model takes anywhere"
            )
        }
        do {
            return try plugin.describe(
                module: bytes, inputs: schema.featureCount, shape: shape, outputs: schema.outputCount, task: schema.task,
                in: try engines.moduleHost)
        } catch let error as CohortError where error.code == .invalid {
            let hint = shape.isEmpty ? "; --input-shape says how it takes a row's \(schema.featureCount) features" : ""
            throw CohortError(.invalid, "\(path): \(error.message)\(hint)")
        }
    }
}
