import CohortCore
import Crypto
import FoundationEssentials
import Subprocess
import SystemPackage
import Testing

@testable import CohortTraining
@testable import TorchEngine

/// Modules that Python saved, in the torch engine.
@Suite(.serialized, .enabled(if: plugin != nil && torchPython != nil, "no plugin, or no Python with PyTorch: `make torch`"))
struct ModuleTests {
    private let engine: TorchEngine

    init() throws { engine = try TorchEngine(plugin: try #require(plugin), device: "cpu", threads: 1) }

    /// Saved once by Python, for all tests.
    private static let folder = Folder()

    private actor Folder {
        private var files: [String: [UInt8]]?

        func file(_ name: String) async throws -> [UInt8] {
            if files == nil {
                let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-modules-\(UUID().uuidString)").path
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                defer { try? FileManager.default.removeItem(atPath: folder) }
                let script = #filePath.split(separator: "/").dropLast().joined(separator: "/") + "/Resources/export_modules.py"
                let result = try await run(
                    .path(FilePath(try #require(torchPython))), arguments: ["/\(script)", folder], output: .discarded,
                    error: .string(limit: 1 << 20))
                try #require(result.terminationStatus.isSuccess, "\(result.standardError)")
                files = Dictionary(
                    uniqueKeysWithValues: try FileManager.default.contentsOfDirectory(atPath: folder).map {
                        ($0, [UInt8](try Data(contentsOf: URL(filePath: "\(folder)/\($0)"))))
                    })
            }
            return try #require(files?["\(name).pt"])
        }
    }

    private func spec(_ bytes: [UInt8], inputs: Int, shape: [Int] = [], outputs: Int, task: LearningTask) throws -> (ModelSpec, [Float]) {
        let known = try #require(plugin).describe(module: bytes, inputs: inputs, shape: shape, outputs: outputs, task: task)
        let hash = SHA256.hash(data: bytes).map { $0 < 16 ? "0\(String($0, radix: 16))" : String($0, radix: 16) }.joined()
        let module = ModuleSpec(sha256: hash, inputShape: shape, tensors: known.tensors)
        return (ModelSpec(inputs: inputs, hidden: [], outputs: outputs, task: task, module: module), known.weights)
    }

    /// A module that is a SimpleDNN trains as one: loss for loss, weight for weight.
    @Test(arguments: [
        TrainingOptions(optimizer: OptimizerSpec(name: .sgd, momentum: 0.9, weightDecay: 0.01), batchSize: 32, learningRate: 0.02),
        TrainingOptions(optimizer: OptimizerSpec(name: .adamw, gradientClip: 0.5), batchSize: 32, learningRate: 0.01),
        TrainingOptions(batchSize: 24, learningRate: 0.01, classWeights: [1, 4, 0.5], labelSmoothing: 0.1),
    ]) func `a module of linear layers trains as a SimpleDNN does`(options: TrainingOptions) async throws {
        let bytes = try await Self.folder.file("small")
        let (spec, weights) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        #expect(
            spec.tensors.map(\.name) == [
                "layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias", "layers.4.weight", "layers.4.bias",
            ])
        let table = makeTable(rows: 320, features: 6, classes: 3, task: .classification)
        let prepared = try engine.prepare(table)
        let own = try engine.makeModel(spec, module: bytes)
        #expect(try own.parameters() == weights)
        let plain = try NativeEngine(threads: 1).makeModel(ModelSpec(inputs: 6, hidden: [16, 8], outputs: 3, task: .classification))
        try plain.load(parameters: weights)
        for epoch in 0..<6 {
            let order = shuffledRows(table.trainingRows, seed: 9, round: 0, epoch: epoch)
            let a = try own.train(on: prepared, rows: order, options: options, shouldContinue: { true })
            let b = try plain.train(on: table, rows: order, options: options, shouldContinue: { true })
            let (x, y) = (try #require(a.loss), try #require(b.loss))
            #expect(a.samples == 320 && abs(x - y) <= 1e-3 * y, "epoch \(epoch): \(x), \(y)")
        }
        let (a, b) = (try own.parameters(), try plain.parameters())
        #expect(a != weights && zip(a, b).allSatisfy { abs($0 - $1) < 2e-3 })
        let features = Array(UnsafeBufferPointer(start: table.features, count: 60))
        let (p, q) = (try own.predict(features, rowCount: 10), try plain.predict(features, rowCount: 10))
        #expect(zip(p, q).allSatisfy { abs($0 - $1) < 2e-3 } && abs(p[0] + p[1] + p[2] - 1) < 1e-5)
    }

    @Test(arguments: [LearningTask.classification, .regression])
    func `a convolution with statistics of its batches learns, and its state goes to another peer`(task: LearningTask) async throws {
        let bytes = try await Self.folder.file(task == .classification ? "convolution" : "regression")
        let outputs = task == .classification ? 3 : 1
        let (spec, weights) = try spec(bytes, inputs: 16, shape: [1, 4, 4], outputs: outputs, task: task)
        // Statistics are behind what the optimizer trains; counters of whole numbers are not exchanged.
        #expect(spec.tensors.suffix(2).map(\.name) == ["features.1.running_mean", "features.1.running_var"])
        let table = makeTable(rows: 320, features: 16, classes: 3, task: task)
        let prepared = try engine.prepare(table)
        let model = try engine.makeModel(spec, module: bytes)
        let options = TrainingOptions(optimizer: OptimizerSpec(weightDecay: 0.01), batchSize: 32, learningRate: 0.01)
        let before = try model.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true })
        for epoch in 0..<12 {
            _ = try model.train(
                on: prepared, rows: shuffledRows(table.trainingRows, seed: 9, round: 0, epoch: epoch), options: options,
                shouldContinue: { true })
        }
        let after = try model.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true })
        #expect(try #require(after.loss) < 0.7 * (try #require(before.loss)))
        let trained = try model.parameters()
        #expect(trained.suffix(8) != weights.suffix(8), "statistics were kept")

        let other = try engine.makeModel(spec, module: bytes)
        try other.load(parameters: trained)
        let same = try other.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true })
        #expect(same == after)
    }

    @Test func `a tensor in two places is one, and what is not trained stays`() async throws {
        let bytes = try await Self.folder.file("shared")
        let (spec, weights) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        #expect(spec.tensors.map(\.shape) == [[6, 6], [3, 6]])
        let table = makeTable(rows: 96, features: 6, classes: 3, task: .classification)
        let model = try engine.makeModel(spec, module: bytes)
        let options = TrainingOptions(optimizer: OptimizerSpec(name: .adamw, weightDecay: 0.5), batchSize: 16, learningRate: 0.05)
        _ = try model.train(on: engine.prepare(table), rows: table.trainingRows, options: options, shouldContinue: { true })
        let after = try model.parameters()
        #expect(after.prefix(36) != weights.prefix(36) && after.suffix(18) == weights.suffix(18))
    }

    @Test(arguments: [
        ("state", "this is no TorchScript module"), ("none", "has no parameters that can be trained"),
        ("throws", "the module fails on inputs of shape [1, 6]"), ("raises", "no rows of six, please"),
        ("pair", "gives no tensor, but Tuple"), ("double", "is Double; 32-bit floats can be trained"),
    ]) func `a module that cannot be trained is a sentence`(name: String, sentence: String) async throws {
        let bytes = try await Self.folder.file(name)
        let error = try #require(throws: CohortError.self) { try spec(bytes, inputs: 6, outputs: 3, task: .classification) }
        #expect(error.code == .invalid && error.message.contains(sentence), "\(error.message)")
    }

    @Test func `what does not fit the rows, the outputs or the spec is a sentence`() async throws {
        let bytes = try await Self.folder.file("small")
        func message(_ body: () throws -> Void) throws -> String { try #require(throws: CohortError.self, performing: body).message }
        #expect(
            try message { _ = try spec(bytes, inputs: 6, outputs: 4, task: .classification) }.contains("floats of shape [1, 4] are needed"))
        #expect(
            try message { _ = try spec(bytes, inputs: 6, shape: [2, 2], outputs: 3, task: .classification) }.contains(
                "a row has 6 features"))
        #expect(
            try message { _ = try spec(Array(bytes.prefix(300)), inputs: 6, outputs: 3, task: .classification) }.contains(
                "this is no TorchScript module"))
        #expect(try message { _ = try spec([], inputs: 6, outputs: 3, task: .classification) }.contains("this is no TorchScript module"))
        var other = try spec(bytes, inputs: 6, outputs: 3, task: .classification).0
        other.module?.tensors[0].shape = [16, 7]
        #expect(
            try message { _ = try engine.makeModel(other, module: bytes) }.contains(
                "layers.0.weight of [16, 6] instead of layers.0.weight of [16, 7]"))
        other.module?.sha256 = "zz"
        #expect(try message { try other.check() }.contains("sha256"))
        let whole = try spec(bytes, inputs: 6, outputs: 3, task: .classification).0
        #expect(
            try message { _ = try NativeEngine(threads: 1).makeModel(whole, module: bytes) }.contains("a peer with --engine torch does"))
    }
}
