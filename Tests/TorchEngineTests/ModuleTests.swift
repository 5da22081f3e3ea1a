import CohortCore
import Crypto
import FoundationEssentials
import Glibc
import Subprocess
import SystemPackage
import TestSupport
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

    // MARK: In a separate process

    private static let host = ModuleHost(executable: cohortBinary, requiresWalls: false)
    /// Whether this system has Landlock and seccomp; CI says that it must.
    private static let hasWalls: Bool = {
        guard ProcessInfo.processInfo.environment["COHORT_TEST_REQUIRE_TORCH"] == nil, let plugin else { return true }
        let process = try? ModuleProcess(host, plugin: plugin.path, device: "cpu", threads: 1, precision: .float32)
        return process?.notes.contains { $0.contains("without network, files and other processes") } == true
    }()

    private func apart() throws -> TorchEngine {
        try TorchEngine(plugin: try #require(plugin), device: "cpu", threads: 1, modules: Self.host)
    }

    /// Rows as the modules under test take them; `marked`: the one at which some do what they should not.
    private func rows(marked: Int? = nil) -> FeatureTable {
        let table = makeTable(rows: 96, features: 6, classes: 3, task: .classification)
        var features = Array(table.features.prefix(96 * 6))
        if let marked { features[marked * 6] = 2_000 }
        return FeatureTable(
            features: features, targets: Array(table.targets.prefix(96)), featureCount: 6)
    }

    @Test func `a separate process trains a module to the same bits`() async throws {
        let bytes = try await Self.folder.file("convolution")
        let (spec, weights) = try spec(bytes, inputs: 16, shape: [1, 4, 4], outputs: 3, task: .classification)
        let table = makeTable(rows: 320, features: 16, classes: 3, task: .classification)
        let (here, there) = (engine, try apart())
        let (a, b) = (try here.ownModel(spec, module: bytes), try there.makeModel(spec, module: bytes))
        #expect(try b.parameters() == weights && there.notes.contains { $0.contains("in a separate process") })
        let (ours, theirs) = (try here.prepare(table), try there.prepare(table))
        let options = TrainingOptions(optimizer: OptimizerSpec(weightDecay: 0.01), batchSize: 32, learningRate: 0.01)
        for epoch in 0..<3 {
            let order = shuffledRows(table.trainingRows, seed: 9, round: 0, epoch: epoch)
            // Dropout draws from its process's own generator: what is compared is without.
            _ = try a.evaluate(on: ours, rows: order[...], shouldContinue: { true })
            var asked = 0
            let counts = try b.train(
                on: theirs, rows: order, options: options,
                shouldContinue: {
                    asked += 1
                    return true
                })
            #expect(counts.samples == 320 && asked == 10)
        }
        let state = try b.optimizerState()
        #expect(state.steps == 30 && Set(state.streams.keys) == ["exp_avg", "exp_avg_sq"])
        try a.load(parameters: try b.parameters())
        try a.load(optimizerState: state)
        #expect(try a.optimizerState() == state)
        try b.load(optimizerState: state)
        #expect(try b.optimizerState() == state)
        let rows = table.trainingRows[...]
        #expect(
            try a.evaluate(on: ours, rows: rows, shouldContinue: { true }) == b.evaluate(on: theirs, rows: rows, shouldContinue: { true }))
        let features = Array(table.features.prefix(160))
        #expect(try a.predict(features, rowCount: 10) == b.predict(features, rowCount: 10))
        // It asks before each batch, and hears no.
        let ended = try b.train(on: theirs, rows: table.trainingRows, options: options, shouldContinue: { false })
        #expect(ended.samples == 0 && b.isUsable)
    }

    @Test(.enabled(if: hasWalls, "this system has no Landlock or no seccomp"))
    func `a module reaches no file, and its process nothing at all`() async throws {
        let bytes = try await Self.folder.file("reads")
        // Here it does: what stops it is the other process's walls.
        let (spec, _) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        let table = rows()
        let engine = try apart()
        let model = try engine.makeModel(spec, module: bytes)
        let error = try #require(throws: CohortError.self) {
            try model.evaluate(on: engine.prepare(table), rows: [0, 1], shouldContinue: { true })
        }
        #expect(error.message.contains("/etc/passwd") && error.message.contains("ermi"), "\(error.message)")
    }

    /// Every row of the table is tried: behind the walls of this kernel, of one with Landlock 2 (Linux 5.19), and of one without Landlock; and in
    /// this process, where there are no walls, so that a row that can never be carried out is found.
    @Test(.enabled(if: hasWalls, "this system has no Landlock or no seccomp"), arguments: [Int32.max, 2, 0])
    func `nothing of its host can be reached or changed from a module's process`(newestLandlock: Int32) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-attempts-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: "\(folder)/folder", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for name in ["file", "secret"] { try Data("theirs".utf8).write(to: URL(filePath: "\(folder)/\(name)")) }
        var victim: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("/bin/sleep"), strdup("600"), nil]
        defer { for argument in arguments { free(argument) } }
        try #require(posix_spawn(&victim, "/bin/sleep", nil, nil, &arguments, nil) == 0)
        defer {
            kill(victim, SIGKILL)
            var status: Int32 = 0
            waitpid(victim, &status, 0)
        }
        var host = ModuleHost(executable: cohortBinary, requiresWalls: true)
        host.newestLandlock = newestLandlock
        let process = try ModuleProcess(host, plugin: try #require(plugin).path, device: "cpu", threads: 1, precision: .float32)
        #expect(try process.call(.attempt(folder: folder, victim: victim)).succeeded == [])
        for name in ["file", "secret"] { #expect(try Data(contentsOf: URL(filePath: "\(folder)/\(name)")) == Data("theirs".utf8)) }
        let attempts = Attempts(folder: folder, victim: victim)
        #expect(Set(attempts.succeeded()) == Set(attempts.names), "what no wall stops must be possible outside")
    }

    /// The walls are the same for a module that trains, on as many threads as there are.
    @Test(.enabled(if: hasWalls, "this system has no Landlock or no seccomp"), arguments: [Int32.max, 0])
    func `a module trains behind the walls of every kernel, on several threads`(newestLandlock: Int32) async throws {
        let bytes = try await Self.folder.file("convolution")
        var host = ModuleHost(executable: cohortBinary, requiresWalls: true)
        host.newestLandlock = newestLandlock
        let engine = try TorchEngine(plugin: try #require(plugin), device: "cpu", threads: 4, modules: host)
        let (spec, _) = try spec(bytes, inputs: 16, shape: [1, 4, 4], outputs: 3, task: .classification)
        let model = try engine.makeModel(spec, module: bytes)
        let table = makeTable(rows: 2_048, features: 16, classes: 3, task: .classification)
        let prepared = try engine.prepare(table)
        let options = TrainingOptions(optimizer: OptimizerSpec(), batchSize: 512, learningRate: 0.01)
        let counts = try model.train(on: prepared, rows: table.trainingRows, options: options, shouldContinue: { true })
        #expect(counts.samples == table.trainingRows.count && counts.lossSum.isFinite)
        #expect(try model.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true }).samples == counts.samples)
    }

    /// Batch normalization cannot train on one row: the last batch of a pass never has one, unless every batch has.
    @Test(arguments: [(33, 32), (65, 32), (32, 32), (31, 32), (2, 32)]) func `no batch of an epoch has one row`(rows: Int, batch: Int)
        async throws
    {
        let bytes = try await Self.folder.file("normalized")
        let (spec, _) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        let engine = try apart()
        let model = try engine.makeModel(spec, module: bytes)
        let prepared = try engine.prepare(self.rows())
        func train(_ batch: Int) throws -> Counts {
            try model.train(
                on: prepared, rows: (0..<UInt32(rows)).map { $0 }, options: TrainingOptions(batchSize: batch, learningRate: 0.01),
                shouldContinue: { true })
        }
        #expect(try train(batch).samples == rows)
        let error = try #require(throws: CohortError.self) { _ = try train(1) }
        #expect(error.message.contains("more than 1 value per channel"), "\(error.message)")
    }

    /// The plugin may have been copied into the folder of a peer's own data, as docs/engines.md says.
    @Test func `what lies beside the plugin is not readable, and it loads all the same`() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-beside-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let copy = "\(folder)/libcohort-torch.so"
        try FileManager.default.copyItem(atPath: try #require(pluginPath), toPath: copy)
        let readable = ModuleProcess.readable(copy)
        #expect(readable.contains(copy) && !readable.contains { folder.hasPrefix($0) }, "\(readable)")
        #expect(throws: Never.self) {
            try ModuleProcess(Self.host, plugin: copy, device: "cpu", threads: 1, precision: .float32)
        }
    }

    @Test func `a module that computes endlessly is ended, and so is one whose process was killed`() async throws {
        let bytes = try await Self.folder.file("loops")
        let (spec, _) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        let engine = try apart()
        let table = try engine.prepare(rows(marked: 40))
        let options = TrainingOptions(batchSize: 32, learningRate: 0.01)
        let model = try engine.makeModel(spec, module: bytes)
        var asked = 0
        #expect(throws: CancellationError.self) {
            try model.train(
                on: table, rows: Array(0..<96), options: options,
                shouldContinue: {
                    asked += 1
                    // In its second batch it does not ask any more.
                    if asked == 2 { model.interrupt() }
                    return true
                })
        }
        #expect(asked == 2 && !model.isUsable)
        #expect(throws: CohortError.self) { try model.parameters() }

        let other = try #require(try engine.makeModel(spec, module: bytes) as? RemoteModule)
        var batches = 0
        let error = try #require(throws: CohortError.self) {
            try other.train(
                on: table, rows: Array(0..<96), options: options,
                shouldContinue: {
                    batches += 1
                    if batches == 2 { kill(other.process.id, SIGKILL) }
                    return true
                })
        }
        #expect(error.code == .invalid && error.message.contains("the module's process ended: it was killed"), "\(error.message)")
        #expect(!other.isUsable)
    }

    @Test func `a fault in a module's pass is a sentence, and the next pass works`() async throws {
        let bytes = try await Self.folder.file("exhausts")
        let (spec, _) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        let engine = try apart()
        let model = try engine.makeModel(spec, module: bytes)
        let table = try engine.prepare(rows(marked: 40))
        #expect(throws: CohortError.self) { try model.evaluate(on: table, rows: [39, 40], shouldContinue: { true }) }
        #expect(try model.evaluate(on: table, rows: [38, 39], shouldContinue: { true }).samples == 2)
        let pid = try #require(model as? RemoteModule).process.id
        #expect(kill(pid, 0) == 0)
        let narrow = try engine.prepare(makeTable(rows: 8, features: 5, classes: 3, task: .classification))
        let error = try #require(throws: CohortError.self) { try model.evaluate(on: narrow, rows: [0], shouldContinue: { true }) }
        #expect(error.message.contains("the table has 5 features, the module takes 6"))
    }

    @Test func `a module that asks for more than its part of the memory is refused, with the reason`() async throws {
        let bytes = try await Self.folder.file("greedy")
        let (spec, _) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        let engine = try apart()
        let model = try engine.makeModel(spec, module: bytes)
        let table = try engine.prepare(rows(marked: 40))
        let error = try #require(throws: CohortError.self) { try model.evaluate(on: table, rows: [39, 40], shouldContinue: { true }) }
        #expect(error.message.contains("allocate memory"), "\(error.message)")
        #expect(try model.evaluate(on: table, rows: [38, 39], shouldContinue: { true }).samples == 2)
    }

    @Test func `a module is written with its new weights`() async throws {
        let bytes = try await Self.folder.file("convolution")
        let (spec, weights) = try spec(bytes, inputs: 16, shape: [1, 4, 4], outputs: 3, task: .classification)
        let new = weights.indices.map { weights[$0] + Float($0 % 7) * 0.01 }
        let plugin = try #require(plugin)
        let written = try plugin.torchScript(spec, module: bytes, weights: new, in: Self.host)
        let known = try plugin.describe(module: written, inputs: 16, shape: [1, 4, 4], outputs: 3, task: .classification, in: Self.host)
        #expect(known.weights == new && known.tensors == spec.tensors)
        let model = try engine.ownModel(spec, module: bytes)
        try model.load(parameters: new)
        let other = try engine.ownModel(spec, module: written)
        let features = (0..<32).map { Float($0) / 16 - 1 }
        #expect(try model.predict(features, rowCount: 2) == other.predict(features, rowCount: 2))
    }

    @Test func `a process ends with the model that it runs`() async throws {
        let bytes = try await Self.folder.file("small")
        let (spec, _) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        var model: RemoteModule? = try apart().makeModel(spec, module: bytes) as? RemoteModule
        let pid = try #require(model).process.id
        #expect(kill(pid, 0) == 0)
        model = nil
        #expect(kill(pid, 0) == -1 && errno == ESRCH)
    }

    // MARK: Here

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
        let own = try engine.ownModel(spec, module: bytes)
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
        let features = Array(table.features.prefix(60))
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
        let model = try engine.ownModel(spec, module: bytes)
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

        let other = try engine.ownModel(spec, module: bytes)
        try other.load(parameters: trained)
        let same = try other.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true })
        #expect(same == after)
    }

    /// The same three weights as a net without hidden layers: step for step the native engine's.
    @Test(arguments: [LossName.mse, .l1, .huber]) func `a module of a number minimizes its loss by name`(loss: LossName) async throws {
        let bytes = try await Self.folder.file("line")
        let (spec, weights) = try spec(bytes, inputs: 6, outputs: 1, task: .regression)
        let table = makeTable(rows: 320, features: 6, classes: 3, task: .regression)
        let model = try engine.ownModel(spec, module: bytes)
        let plain = try NativeEngine(threads: 1).makeModel(ModelSpec(inputs: 6, hidden: [], outputs: 1, task: .regression))
        try plain.load(parameters: weights)
        let options = TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 32, learningRate: 0.05, loss: loss)
        for epoch in 0..<4 {
            let order = shuffledRows(table.trainingRows, seed: 9, round: 0, epoch: epoch)
            let a = try model.train(on: engine.prepare(table), rows: order, options: options, shouldContinue: { true })
            let b = try plain.train(on: table, rows: order, options: options, shouldContinue: { true })
            #expect(abs(try #require(a.loss) - (try #require(b.loss))) <= 1e-4 * (try #require(b.loss)))
        }
        #expect(zip(try model.parameters(), try plain.parameters()).allSatisfy { abs($0 - $1) < 1e-4 })
    }

    @Test func `a tensor in two places is one, and what is not trained stays`() async throws {
        let bytes = try await Self.folder.file("shared")
        let (spec, weights) = try spec(bytes, inputs: 6, outputs: 3, task: .classification)
        #expect(spec.tensors.map(\.shape) == [[6, 6], [3, 6]])
        let table = makeTable(rows: 96, features: 6, classes: 3, task: .classification)
        let model = try engine.ownModel(spec, module: bytes)
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
            try message { _ = try engine.ownModel(other, module: bytes) }.contains(
                "layers.0.weight of [16, 6] instead of layers.0.weight of [16, 7]"))
        other.module?.sha256 = "zz"
        #expect(try message { try other.check() }.contains("sha256"))
        let whole = try spec(bytes, inputs: 6, outputs: 3, task: .classification).0
        #expect(
            try message { _ = try NativeEngine(threads: 1).makeModel(whole, module: bytes) }.contains("a peer with --engine torch does"))
    }
}
