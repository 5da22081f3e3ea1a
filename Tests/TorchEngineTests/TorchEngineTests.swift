import CohortCore
import CohortTraining
import FoundationEssentials
import Subprocess
import TestSupport
import Testing

@testable import TorchEngine

/// What a pass can be asked for, one of each kind.
private let settings: [TrainingOptions] = [
    TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 32, learningRate: 0.1),
    TrainingOptions(optimizer: OptimizerSpec(name: .sgd, momentum: 0.9, weightDecay: 0.01), batchSize: 32, learningRate: 0.02),
    TrainingOptions(optimizer: OptimizerSpec(name: .sgd, momentum: 0.9, nesterov: true), batchSize: 17, learningRate: 0.02),
    TrainingOptions(optimizer: OptimizerSpec(name: .adam), batchSize: 32, learningRate: 0.003),
    TrainingOptions(optimizer: OptimizerSpec(name: .adam, weightDecay: 0.1, beta1: 0.8, beta2: 0.95, epsilon: 1e-6), batchSize: 32),
    TrainingOptions(optimizer: OptimizerSpec(name: .adamw, weightDecay: 0.1), batchSize: 32, learningRate: 0.003),
    TrainingOptions(optimizer: OptimizerSpec(name: .sgd, gradientClip: 0.3), batchSize: 32, learningRate: 0.5),
    TrainingOptions(optimizer: OptimizerSpec(name: .adam), batchSize: 32, learningRate: 0.003, proximalMu: 20),
]

@Suite(.serialized, .enabled(if: plugin != nil, "the plugin is not built: `make torch`")) struct TorchEngineTests {
    private let rows = 320
    private let native = NativeEngine(threads: 1)
    private let torch: TorchEngine

    init() throws { torch = try TorchEngine(plugin: try #require(plugin), device: "cpu", threads: 1) }

    /// Epoch by epoch, each in the same order of rows, from the same weights.
    private func losses(
        _ engine: some TrainingEngine, _ spec: ModelSpec, _ table: FeatureTable, _ options: TrainingOptions, epochs: Int,
        correction: [Float]? = nil
    ) throws -> (steps: [Double], end: Counts, weights: [Float]) {
        let model = try engine.makeModel(spec)
        try model.load(correction: correction)
        try model.load(parameters: initialParameters(spec, seed: 5))
        let prepared = try engine.prepare(table)
        var steps: [Double] = []
        // The first steps, one pass each.
        for step in 0..<5 {
            let part = Array(table.trainingRows[(step * options.batchSize)..<((step + 1) * options.batchSize)])
            steps.append(try #require(try model.train(on: prepared, rows: part, options: options, shouldContinue: { true }).loss))
        }
        for epoch in 0..<epochs {
            let order = shuffledRows(table.trainingRows, seed: 9, round: 0, epoch: epoch)
            _ = try model.train(on: prepared, rows: order, options: options, shouldContinue: { true })
        }
        let end = try model.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true })
        return (steps, end, try model.parameters())
    }

    private func compare(_ spec: ModelSpec, _ options: TrainingOptions, correction: [Float]? = nil) throws {
        let table = makeTable(rows: rows, features: spec.inputs, classes: max(spec.outputs, 2), task: spec.task)
        let ours = try losses(native, spec, table, options, epochs: 5, correction: correction)
        let theirs = try losses(torch, spec, table, options, epochs: 5, correction: correction)
        for (step, pair) in zip(ours.steps, theirs.steps).enumerated() {
            #expect(abs(pair.0 - pair.1) <= 1e-4 * abs(pair.0), "step \(step): native \(pair.0), torch \(pair.1)")
        }
        let (a, b) = (try #require(ours.end.loss), try #require(theirs.end.loss))
        #expect(abs(a - b) <= 1e-2 * abs(a), "the loss at the end: native \(a), torch \(b)")
        #expect(ours.end.samples == theirs.end.samples && ours.end.targetSum.isApproximately(theirs.end.targetSum))
        #expect(abs(ours.end.correct - theirs.end.correct) <= rows / 100, "right at the end: \(ours.end.correct), \(theirs.end.correct)")
        #expect(ours.steps[0] > a, "it learned")
    }

    @Test(arguments: settings) func `trains a classification as the native engine does`(options: TrainingOptions) throws {
        try compare(ModelSpec(inputs: 6, hidden: [16, 8], outputs: 3, task: .classification), options)
    }

    @Test func `takes a correction off in each step as the native engine does`() throws {
        let spec = ModelSpec(inputs: 6, hidden: [16, 8], outputs: 3, task: .classification)
        let correction = (0..<spec.parameterCount).map { Float($0 % 7 - 3) / 300 }
        try compare(spec, settings[0], correction: correction)
        // One that is taken back is gone.
        let table = makeTable(rows: rows, features: 6, classes: 3, task: .classification)
        let model = try torch.makeModel(spec)
        let prepared = try torch.prepare(table)
        func trained(_ correction: [Float]?) throws -> [Float] {
            try model.load(parameters: initialParameters(spec, seed: 5))
            try model.load(correction: correction)
            _ = try model.train(on: prepared, rows: table.trainingRows, options: settings[0], shouldContinue: { true })
            return try model.parameters()
        }
        let plain = try trained(nil)
        #expect(try trained(correction) != plain)
        #expect(try trained(nil) == plain)
        #expect(throws: CohortError.self) { try model.load(correction: [1]) }
    }

    @Test(arguments: settings) func `trains a regression as the native engine does`(options: TrainingOptions) throws {
        try compare(ModelSpec(inputs: 6, hidden: [16], outputs: 1, task: .regression), options)
    }

    @Test(arguments: Activation.allCases, [[], [8]]) func `takes every activation and a linear model`(activation: Activation, hidden: [Int])
        throws
    {
        try compare(ModelSpec(inputs: 5, hidden: hidden, outputs: 4, activation: activation, task: .classification), settings[3])
    }

    @Test func `weighs classes and smooths labels as the native engine does`() throws {
        let spec = ModelSpec(inputs: 6, hidden: [16, 8], outputs: 3, task: .classification)
        var options = settings[3]
        options.classWeights = [1, 4, 0.5]
        try compare(spec, options)
        options.labelSmoothing = 0.1
        try compare(spec, options)
        options.classWeights = nil
        try compare(spec, options)
    }

    /// Masks are each engine's own, so that only what they do to training can be held.
    @Test(arguments: [LossName.mse, .l1, .huber]) func `minimizes a number's loss by name as the native engine does`(loss: LossName) throws
    {
        var options = settings[3]
        options.loss = loss
        try compare(ModelSpec(inputs: 6, hidden: [16], outputs: 1, task: .regression), options)
    }

    @Test(arguments: Activation.allCases) func `dropout changes training, not evaluation, and is the same for the same seed`(
        activation: Activation
    ) throws {
        let table = makeTable(rows: rows, features: 6, classes: 3, task: .classification)
        let spec = ModelSpec(inputs: 6, hidden: [32, 16], outputs: 3, activation: activation, dropout: 0.4, task: .classification)
        var options = settings[3]
        options.dropoutSeed = 11
        let first = try losses(torch, spec, table, options, epochs: 20)
        let again = try losses(torch, spec, table, options, epochs: 20)
        options.dropoutSeed = 12
        let other = try losses(torch, spec, table, options, epochs: 20)
        #expect(first.weights == again.weights && first.steps == again.steps)
        #expect(first.weights != other.weights)
        let native = try losses(native, spec, table, options, epochs: 20)
        #expect(abs(try #require(first.end.accuracy) - (try #require(native.end.accuracy))) < 0.08)
        let model = try torch.makeModel(spec)
        try model.load(parameters: first.weights)
        let prepared = try torch.prepare(table)
        let evaluations = try (0..<2).map { _ in
            try model.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { true })
        }
        #expect(evaluations[0] == evaluations[1] && evaluations[0] == first.end)
    }

    @Test(arguments: [OptimizerSpec(name: .sgd, momentum: 0.9), OptimizerSpec(name: .adam), OptimizerSpec(name: .adamw)])
    func `an optimizer's state goes from engine to engine`(optimizer: OptimizerSpec) throws {
        let spec = ModelSpec(inputs: 6, hidden: [16], outputs: 3, task: .classification)
        let table = makeTable(rows: rows, features: 6, classes: 3, task: .classification)
        let options = TrainingOptions(optimizer: optimizer, batchSize: 32, learningRate: 0.01)
        let engines: [any TrainingEngine] = [native, torch]
        func trained(_ engine: any TrainingEngine, _ model: any TrainableModel) throws -> Double {
            try #require(
                try model.train(on: engine.prepare(table), rows: table.trainingRows, options: options, shouldContinue: { true }).loss)
        }
        for (from, to) in [(0, 1), (1, 0), (1, 1), (0, 0)] {
            let model = try engines[from].makeModel(spec)
            try model.load(parameters: initialParameters(spec, seed: 5))
            _ = try trained(engines[from], model)
            let (weights, state) = (try model.parameters(), try model.optimizerState())
            #expect(state.steps == 10 && state.streams.values.allSatisfy { $0.count == weights.count && $0.contains { $0 != 0 } })
            _ = try trained(engines[from], model)
            let expected = try trained(engines[from], model)

            let other = try engines[to].makeModel(spec)
            try other.load(parameters: weights)
            try other.load(optimizerState: state)
            _ = try trained(engines[to], other)
            let got = try trained(engines[to], other)
            #expect(abs(expected - got) <= 1e-3 * expected, "from \(engines[from].name) to \(engines[to].name): \(expected), \(got)")

            let kept = try trained(engines[to], other)
            #expect(kept < got)
            try other.load(parameters: weights, keepsOptimizer: true)
            #expect(try other.optimizerState().steps == 40 && (try other.parameters()) == weights)
            try other.load(parameters: weights)
            #expect(try other.optimizerState().steps == 0)

            let forgetful = try engines[to].makeModel(spec)
            try forgetful.load(parameters: weights)
            _ = try trained(engines[to], forgetful)
            #expect(abs(expected - (try trained(engines[to], forgetful))) > 1e-3 * expected, "the state matters")
        }
    }

    @Test func `predicts what the native engine predicts`() throws {
        for spec in [
            ModelSpec(inputs: 4, hidden: [8], outputs: 3, task: .classification),
            ModelSpec(inputs: 4, hidden: [8, 8], outputs: 1, task: .regression),
        ] {
            let features = (0..<(4 * 1_500)).map { Float($0 % 17) / 8 - 1 }
            let outputs = try [native as any TrainingEngine, torch].map { engine in
                let model = try engine.makeModel(spec)
                try model.load(parameters: initialParameters(spec, seed: 2))
                return try model.predict(features, rowCount: 1_500)
            }
            #expect(outputs[0].count == outputs[1].count)
            #expect(zip(outputs[0], outputs[1]).allSatisfy { abs($0 - $1) < 1e-5 })
        }
    }

    @Test func `ends a pass when it is not wanted any more, and goes on`() throws {
        let spec = ModelSpec(inputs: 6, hidden: [8], outputs: 3, task: .classification)
        let table = makeTable(rows: rows, features: 6, classes: 3, task: .classification)
        let model = try torch.makeModel(spec)
        try model.load(parameters: initialParameters(spec, seed: 5))
        let prepared = try torch.prepare(table)
        var left = 3
        let counts = try model.train(on: prepared, rows: table.trainingRows, options: settings[0]) {
            left -= 1
            return left >= 0
        }
        #expect(counts.samples == 96)
        #expect(try model.evaluate(on: prepared, rows: table.trainingRows[...], shouldContinue: { false }).samples == 0)
        #expect(try model.train(on: prepared, rows: [], options: settings[0], shouldContinue: { true }).samples == 0)
        #expect(try model.train(on: prepared, rows: table.trainingRows, options: settings[0], shouldContinue: { true }).samples == rows)
    }

    /// Weights, losses and the optimizer are 32-bit floats, so that it comes to the same place.
    @Test(arguments: [LearningTask.classification, .regression]) func `bfloat16 learns what 32 bits learn`(task: LearningTask) throws {
        let rounded = try TorchEngine(plugin: try #require(plugin), device: "cpu", threads: 1, precision: .bfloat16)
        #expect(rounded.device == "cpu bfloat16")
        let spec = ModelSpec(inputs: 6, hidden: [16, 8], outputs: task == .classification ? 3 : 1, dropout: 0.1, task: task)
        let table = makeTable(rows: rows, features: 6, classes: 3, task: task)
        let whole = try losses(torch, spec, table, settings[3], epochs: 10)
        let half = try losses(rounded, spec, table, settings[3], epochs: 10)
        #expect(half.weights != whole.weights && half.weights.contains { $0.bitPattern & 0xffff != 0 }, "weights keep 32 bits")
        #expect(abs(half.steps[0] - whole.steps[0]) < 0.02 * whole.steps[0])
        let (a, b) = (try #require(whole.end.loss), try #require(half.end.loss))
        #expect(b < half.steps[0] && abs(a - b) < 0.1 * a, "\(a), \(b)")
        #expect(throws: CohortError.self) { try TorchEngine(plugin: plugin!, device: "cpu", threads: 1, precision: .tf32) }
    }

    @Test func `reports invalid specs`() throws {
        let plugin = try #require(plugin)
        let away = try #require(throws: CohortError.self) { try TorchEngine(plugin: plugin, device: "cuda:77", threads: 1) }
        #expect(away.message.contains("cuda:77") && away.message.contains("cpu"))
        let spec = ModelSpec(inputs: 6, hidden: [8], outputs: 3, task: .classification)
        let model = try torch.makeModel(spec)
        let few = try #require(throws: CohortError.self) { try model.load(parameters: [1, 2]) }
        #expect(few.code == .invalid && few.message.contains("2 parameters were given; this net has 83"))
        let narrow = try torch.prepare(makeTable(rows: 8, features: 4, classes: 3, task: .classification))
        let table = try #require(throws: CohortError.self) {
            try model.train(on: narrow, rows: [0], options: settings[0], shouldContinue: { true })
        }
        #expect(table.message.contains("the table has 4 features; this net takes 6"))
        let wide = try torch.prepare(makeTable(rows: 8, features: 6, classes: 3, task: .classification))
        let row = try #require(throws: CohortError.self) {
            try model.evaluate(on: wide, rows: [3, 8], shouldContinue: { true })
        }
        #expect(row.message.contains("row 8"))
        var options = settings[0]
        options.classWeights = [1, 2]
        #expect(throws: CohortError.self) { try model.train(on: wide, rows: [0], options: options, shouldContinue: { true }) }
        options.classWeights = nil
        options.batchSize = 0
        #expect(throws: CohortError.self) { try model.train(on: wide, rows: [0], options: options, shouldContinue: { true }) }
        // And none of these broke it.
        #expect(try model.train(on: wide, rows: [0, 7], options: settings[0], shouldContinue: { true }).samples == 2)
    }

    @Test func `is measured as the native engine is`() throws { #expect(try torch.measureSamplesPerSecond(for: 0.05) > 0) }
}

/// These need no PyTorch.
@Suite struct TorchPluginTests {
    @Test func `COHORT_TEST_REQUIRE_TORCH finds it`() throws {
        guard ProcessInfo.processInfo.environment["COHORT_TEST_REQUIRE_TORCH"] != nil else { return }
        let path = try #require(pluginPath, "`make torch` has not built the plugin")
        _ = try TorchPlugin(path: path)
    }

    @Test func `a plugin that is missing, no library, no plugin, or of another version is a sentence`() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-plugin-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func message(_ path: String) throws -> String {
            let error = try #require(throws: CohortError.self) { try TorchPlugin(path: path) }
            #expect(error.code == .unavailable)
            return error.message
        }
        #expect(try message("/nowhere/libcohort-torch.so").contains("/nowhere/libcohort-torch.so"))
        let text = folder.appending(path: "text.so").path
        try Data("no library".utf8).write(to: URL(filePath: text))
        #expect(try message(text).contains("text.so"))
        func library(_ name: String, _ code: String) async throws -> String {
            let source = folder.appending(path: "\(name).c").path
            try Data(code.utf8).write(to: URL(filePath: source))
            let library = folder.appending(path: "\(name).so").path
            let result = try await run(
                .name("clang"), arguments: ["-shared", "-fPIC", "-o", library, source], output: .discarded, error: .string(limit: 65_536))
            #expect(result.terminationStatus.isSuccess, "\(result.standardError)")
            return library
        }
        #expect(try message(try await library("none", "int something(void) { return 1; }")).contains("is no PyTorch plugin"))
        let old = try await library(
            "old",
            "#include <stdint.h>\nconst void *cohort_torch_open(uint32_t asked, uint32_t *served) { *served = asked + 41; return 0; }")
        #expect(try message(old).contains("was built for interface 46 of the plugin, this cohort needs 5"))
    }
}

extension Double {
    fileprivate func isApproximately(_ other: Double) -> Bool { abs(self - other) <= 1e-4 * max(1, abs(self)) }
}
