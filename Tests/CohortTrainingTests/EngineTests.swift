import CohortCore
import TestSupport
import Testing

@testable import CohortTraining

/// A small table: `rows` rows of `features` numbers, targets from a rule.
private func makeTable(rows: Int, features: Int, target: (Int, [Float]) -> Float) -> FeatureTable {
    var generator = SeededGenerator(seed: 3)
    var (matrix, targets): ([Float], [Float]) = ([], [])
    for row in 0..<rows {
        let values = (0..<features).map { _ in generator.nextFloat() * 2 - 1 }
        matrix += values
        targets.append(target(row, values))
    }
    return FeatureTable(features: matrix, targets: targets, featureCount: features)
}

@Suite struct EngineTests {
    private let engine = NativeEngine(threads: 1)

    /// Of one bias: its step is minus the mean slope of the rows' losses; the reported loss stays the square.
    @Test(arguments: [(LossName?.none, 7.0), (.mse, 7.0), (.l1, 2.0 / 3), (.huber, 0.5)])
    func `a number's loss is minimized by name`(loss: LossName?, step: Double) throws {
        let table = FeatureTable(features: [0, 0, 0], targets: [0, 10, 0.5], featureCount: 1)
        let model = try engine.makeModel(ModelSpec(inputs: 1, hidden: [], outputs: 1, task: .regression))
        try model.load(parameters: [1, 0])
        let options = TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 3, learningRate: 1, loss: loss)
        let counts = try model.train(on: table, rows: [0, 1, 2], options: options, shouldContinue: { true })
        #expect(abs(Double(try model.parameters()[1]) - step) < 1e-6 && counts.lossSum == 100.25)
        let classes = try engine.makeModel(ModelSpec(inputs: 1, hidden: [], outputs: 2, task: .classification))
        let refused = TrainingOptions(loss: .l1)
        let error = #expect(throws: CohortError.self) {
            try classes.train(on: table, rows: [0], options: refused, shouldContinue: { true })
        }
        #expect(error?.message.contains("loss is l1, which is for regression") == true)
    }

    /// One SGD step with rate 1 moves each weight by minus its gradient: held against central differences of the loss.
    @Test(arguments: [LearningTask.classification, .regression], [Activation.tanh, .sigmoid, .relu])
    func `gradients agree with finite differences`(task: LearningTask, activation: Activation) throws {
        let spec = ModelSpec(inputs: 3, hidden: [5, 4], outputs: task == .classification ? 3 : 1, activation: activation, task: task)
        let table = makeTable(rows: 8, features: 3) { row, values in task == .classification ? Float(row % 3) : values[0] * 2 + values[1] }
        let start = initialParameters(spec, seed: 1).map { $0 * 2 }
        let model = try engine.drawn(spec, seed: 1)
        try model.load(parameters: start)
        _ = try model.train(
            on: table, rows: table.trainingRows,
            options: TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 8, learningRate: 1), shouldContinue: { true })
        let gradient = zip(start, try model.parameters()).map { $0 - $1 }
        func loss(_ parameters: [Float]) throws -> Double {
            try model.load(parameters: parameters)
            return try #require(try model.evaluate(on: table, rows: table.trainingRows[...], shouldContinue: { true }).loss)
        }
        for index in stride(from: 0, to: start.count, by: 3) {
            // Small, so that hardly a hidden unit crosses ReLU's kink.
            let step: Float = 1e-3
            var above = start
            var below = start
            above[index] += step
            below[index] -= step
            let numeric = (try loss(above) - loss(below)) / Double(2 * step)
            #expect(
                abs(numeric - Double(gradient[index])) < 2e-3 + 2e-2 * abs(numeric), "parameter \(index): \(numeric) and \(gradient[index])"
            )
        }
    }

    /// Each step by itself, from the weights that the last one left.
    @Test(arguments: [OptimizerSpec(name: .sgd), OptimizerSpec(name: .adam)])
    func `a proximal term pulls each step toward the weights that were loaded`(optimizer: OptimizerSpec) throws {
        let spec = ModelSpec(inputs: 3, hidden: [4], outputs: 2, task: .classification)
        let table = makeTable(rows: 12, features: 3) { row, _ in Float(row % 2) }
        let (free, pulled) = (try engine.drawn(spec, seed: 1), try engine.drawn(spec, seed: 1))
        let start = try free.parameters()
        var options = TrainingOptions(optimizer: optimizer, batchSize: 12, learningRate: 0.1)
        for _ in 0..<4 {
            let before = try pulled.parameters()
            let state = try pulled.optimizerState()
            try free.load(parameters: before)
            try free.load(optimizerState: state)
            options.proximalMu = 0
            _ = try free.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true })
            options.proximalMu = 2
            _ = try pulled.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true })
            let expected = zip(try free.parameters(), start).map { $0 - 0.1 * 2 * ($0 - $1) }
            #expect(zip(try pulled.parameters(), expected).allSatisfy { abs($0 - $1) < 1e-6 })
        }
        // Another start is another anchor.
        try pulled.load(parameters: start.map { $0 + 1 })
        options.learningRate = 1e-9
        options.proximalMu = 1e8
        _ = try pulled.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true })
        #expect(zip(try pulled.parameters(), start).allSatisfy { abs($0 - $1 - 1) < 1e-4 })
    }

    @Test func `a correction is taken off in each step until another is loaded`() throws {
        let spec = ModelSpec(inputs: 3, hidden: [4], outputs: 2, task: .classification)
        let table = makeTable(rows: 12, features: 3) { row, _ in Float(row % 2) }
        let (free, corrected) = (try engine.drawn(spec, seed: 1), try engine.drawn(spec, seed: 1))
        let options = TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 12, learningRate: 0.1)
        func step(_ correction: [Float]?) throws {
            let before = try corrected.parameters()
            try free.load(parameters: before)
            _ = try free.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true })
            _ = try corrected.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true })
            let expected = zip(try free.parameters(), correction ?? before.map { _ in 0 }).map { $0 - 0.1 * $1 }
            #expect(zip(try corrected.parameters(), expected).allSatisfy { abs($0 - $1) < 1e-6 })
        }
        let correction = (0..<spec.parameterCount).map { Float($0 % 5) - 2 }
        try corrected.load(correction: correction)
        try step(correction)
        try corrected.load(parameters: try corrected.parameters().map { $0 + 0.1 })
        try step(correction)
        try corrected.load(correction: nil)
        try step(nil)
        #expect(throws: CohortError.self) { try corrected.load(correction: [1]) }
    }

    /// The formulas of PyTorch's documentation, in double precision, on a net with a single weight and bias.
    @Test(arguments: [
        OptimizerSpec(name: .sgd), OptimizerSpec(name: .sgd, momentum: 0.9),
        OptimizerSpec(name: .sgd, momentum: 0.9, nesterov: true, weightDecay: 0.1),
        OptimizerSpec(name: .adam), OptimizerSpec(name: .adam, weightDecay: 0.1), OptimizerSpec(name: .adamw, weightDecay: 0.1),
    ]) func `optimizers step as PyTorch defines them`(optimizer: OptimizerSpec) throws {
        let spec = ModelSpec(inputs: 1, hidden: [], outputs: 1, task: .regression)
        let table = makeTable(rows: 1, features: 1) { _, _ in 3 }
        let x = Double(table.features[0])
        let model = try engine.drawn(spec, seed: 1)
        try model.load(parameters: [0.5, -0.25])
        var w = [0.5, -0.25]
        var m = [0.0, 0]
        var v = [0.0, 0]
        let lr = 0.05
        for t in 1...5 {
            _ = try model.train(
                on: table, rows: [0], options: TrainingOptions(optimizer: optimizer, batchSize: 1, learningRate: lr),
                shouldContinue: { true })
            let error = w[0] * x + w[1] - 3
            let gradients = [2 * error * x, 2 * error]
            for i in 0..<2 {
                var g = gradients[i]
                switch optimizer.name {
                case .sgd:
                    g += optimizer.weightDecay * w[i]
                    if optimizer.momentum > 0 {
                        m[i] = t == 1 ? g : optimizer.momentum * m[i] + g
                        g = optimizer.nesterov ? g + optimizer.momentum * m[i] : m[i]
                    }
                    w[i] -= lr * g
                case .adam, .adamw:
                    if optimizer.name == .adam { g += optimizer.weightDecay * w[i] } else { w[i] -= lr * optimizer.weightDecay * w[i] }
                    m[i] = 0.9 * m[i] + 0.1 * g
                    v[i] = 0.999 * v[i] + 0.001 * g * g
                    var (b1, b2) = (1.0, 1.0)
                    for _ in 0..<t { (b1, b2) = (b1 * 0.9, b2 * 0.999) }
                    w[i] -= lr * (m[i] / (1 - b1)) / ((v[i] / (1 - b2)).squareRoot() + 1e-8)
                }
            }
            for (ours, theirs) in zip(try model.parameters(), w) {
                #expect(abs(Double(ours) - theirs) < 1e-4, "step \(t): \(ours), \(theirs)")
            }
        }
    }

    @Test func `it learns XOR, with the same bits from the same seed`() throws {
        let spec = ModelSpec(inputs: 2, hidden: [16], outputs: 2, activation: .tanh, dropout: 0.05, task: .classification)
        let table = makeTable(rows: 400, features: 2) { _, values in (values[0] > 0) == (values[1] > 0) ? 1 : 0 }
        var results: [[Float]] = []
        for _ in 0..<2 {
            let model = try engine.drawn(spec, seed: 5)
            for epoch in 0..<60 {
                let order = shuffledRows(table.trainingRows, seed: 1, round: 0, epoch: epoch)
                _ = try model.train(
                    on: table, rows: order, options: TrainingOptions(batchSize: 16, learningRate: 0.02, dropoutSeed: 5),
                    shouldContinue: { true })
            }
            let counts = try model.evaluate(on: table, rows: table.trainingRows[...], shouldContinue: { true })
            #expect(try #require(counts.accuracy) > 0.97)
            results.append(try model.parameters())
        }
        let areSame = results[0] == results[1]
        #expect(areSame)
    }

    @Test func `the same seed gives the same bits whatever the number of threads`() throws {
        let spec = ModelSpec(inputs: 300, hidden: [256, 128], outputs: 10, task: .classification)
        let table = makeTable(rows: 1_000, features: 300) { row, _ in Float(row % 10) }
        var results: [[Float]] = []
        for threads in [1, 2, 3, 1] {
            let model = try NativeEngine(threads: threads).drawn(spec, seed: 5)
            for epoch in 0..<3 {
                let order = shuffledRows(table.trainingRows, seed: 1, round: 0, epoch: epoch)
                _ = try model.train(on: table, rows: order, options: TrainingOptions(batchSize: 250), shouldContinue: { true })
            }
            results.append(try model.parameters())
        }
        let areSame = results.allSatisfy { $0 == results[0] }
        #expect(areSame)
    }

    @Test func `loading weights restarts the optimizer and dropout's masks, and so does another optimizer`() throws {
        let spec = ModelSpec(inputs: 2, hidden: [8], outputs: 2, activation: .tanh, dropout: 0.5, task: .classification)
        let table = makeTable(rows: 64, features: 2) { row, _ in Float(row % 2) }
        let start = initialParameters(spec, seed: 3)
        func trained(_ model: any TrainableModel, _ options: TrainingOptions, epochs: Int = 2) throws -> [Float] {
            for _ in 0..<epochs { _ = try model.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true }) }
            return try model.parameters()
        }
        let options = TrainingOptions(batchSize: 16, learningRate: 0.1, dropoutSeed: 7)
        let model = try engine.drawn(spec, seed: 3)
        let fresh = try trained(model, options)
        try model.load(parameters: start)
        #expect(try trained(model, options) == fresh)
        // Two passes of one stream are not twice the same masks.
        try model.load(parameters: start)
        let once = try trained(model, options, epochs: 1)
        try model.load(parameters: start)
        var other = options
        other.dropoutSeed = 8
        #expect(try trained(model, other, epochs: 1) != once)
        // What one optimizer remembers is nothing to the next.
        let weights = try trained(model, options)
        var sgd = options
        (sgd.optimizer, sgd.dropoutSeed) = (OptimizerSpec(name: .sgd, momentum: 0.9), 9)
        let clean = try engine.makeModel(spec)
        try clean.load(parameters: weights)
        #expect(try trained(model, sgd) == trained(clean, sgd))
    }

    @Test func `training stops within one batch`() throws {
        let table = makeTable(rows: 100, features: 2) { _, _ in 0 }
        let model = try engine.drawn(ModelSpec(inputs: 2, hidden: [4], outputs: 2, task: .classification), seed: 1)
        var batches = 0
        let counts = try model.train(on: table, rows: table.trainingRows, options: TrainingOptions(batchSize: 10, learningRate: 0.1)) {
            batches += 1
            return batches <= 3
        }
        #expect(counts.samples == 30)
    }

    @Test func `mismatches are reported`() throws {
        let table = makeTable(rows: 4, features: 2) { _, _ in 0 }
        let model = try engine.drawn(ModelSpec(inputs: 3, hidden: [], outputs: 2, task: .classification), seed: 1)
        #expect(throws: CohortError.self) { try model.load(parameters: [1]) }
        #expect(throws: CohortError.self) { try model.train(on: table, rows: [0], options: TrainingOptions(), shouldContinue: { true }) }
        let other = try engine.drawn(ModelSpec(inputs: 2, hidden: [], outputs: 2, task: .classification), seed: 1)
        for weights in [[1.0], [1, 0], [1, .infinity]] {
            #expect(throws: CohortError.self) {
                try other.train(on: table, rows: [0], options: TrainingOptions(classWeights: weights), shouldContinue: { true })
            }
        }
        #expect(throws: CohortError.self) { try model.predict([1, 2], rowCount: 1) }
    }
}

extension TrainingEngine {
    /// A model with weights drawn from `seed`.
    func drawn(_ spec: ModelSpec, seed: UInt64) throws -> any TrainableModel {
        let model = try makeModel(spec)
        try model.load(parameters: initialParameters(spec, seed: seed))
        return model
    }
}
