import CohortCore
import Foundation
import Testing

@testable import CohortTraining

/// What PyTorch computed for the same numbers; `Resources/make_reference.py` says how, and makes the file again.
struct ReferenceCase: Decodable, Sendable, CustomTestStringConvertible {
    struct Optimizer: Decodable, Sendable {
        var name: OptimizerName
        var lr: Double
        var momentum: Double?
        var nesterov: Bool?
        var weightDecay: Double?

        enum CodingKeys: String, CodingKey {
            case name, lr, momentum, nesterov
            case weightDecay = "weight_decay"
        }
    }

    /// A vector's norm, and its products with vectors drawn from the seeds 1, 2, ….
    struct Sketch: Decodable, Sendable {
        var norm: Double
        var products: [Double]
    }

    var widths: [Int]
    var batch: Int
    var activation: Activation
    var task: LearningTask
    var seed: UInt64
    var steps: Int
    var optimizer: Optimizer
    /// One a class.
    var weights: [Double]?
    var loss: Double
    var gradient: Sketch
    var parameters: Sketch

    var testDescription: String { "\(widths.map(String.init).joined(separator: "-")), batch \(batch), \(activation), \(optimizer.name)" }

    static let all: [ReferenceCase] = {
        do {
            guard let url = Bundle.module.url(forResource: "reference", withExtension: "json") else {
                throw CohortError(.notFound, "it is a resource of these tests")
            }
            return try JSONDecoder().decode([ReferenceCase].self, from: Data(contentsOf: url))
        } catch {
            fatalError("reference.json cannot be read: \(error)")
        }
    }()

    var spec: ModelSpec {
        ModelSpec(
            inputs: widths[0], hidden: Array(widths[1..<(widths.count - 1)]), outputs: widths[widths.count - 1], activation: activation,
            task: task)
    }

    /// The parameters and the table, drawn again.
    func draw() -> (parameters: [Float], table: FeatureTable) {
        var generator = SeededGenerator(seed: seed)
        let parameters = (0..<spec.parameterCount).map { _ in generator.nextFloat() - 0.5 }
        let features = UnsafeMutablePointer<Float>.allocate(capacity: batch * widths[0])
        let targets = UnsafeMutablePointer<Float>.allocate(capacity: batch)
        for index in 0..<(batch * widths[0]) { features[index] = generator.nextFloat() * 2 - 1 }
        for row in 0..<batch {
            targets[row] = task == .classification ? Float(generator.next(below: spec.outputs)) : generator.nextFloat() * 2 - 1
        }
        nonisolated(unsafe) let memory = (features, targets)
        return (
            parameters,
            FeatureTable(
                .dense(features: features, targets: targets), rowCount: batch, featureCount: widths[0],
                trainingRows: (0..<UInt32(batch)).map { $0 },
                validationRows: [],
                release: {
                    memory.0.deallocate()
                    memory.1.deallocate()
                })
        )
    }
}

@Suite struct ReferenceTests {
    private func check(_ vector: [Double], _ sketch: ReferenceCase.Sketch, within tolerance: Double, comment what: Comment) {
        let norm = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        #expect(abs(norm - sketch.norm) <= tolerance * sketch.norm, what)
        for (index, product) in sketch.products.enumerated() {
            var generator = SeededGenerator(seed: UInt64(index + 1))
            let own = vector.reduce(0) { $0 + $1 * (Double(generator.nextFloat()) * 2 - 1) }
            #expect(abs(own - product) <= tolerance * sketch.norm, what)
        }
    }

    @Test(arguments: ReferenceCase.all) func `loss, gradient and ten steps agree with PyTorch`(reference: ReferenceCase) throws {
        let (start, table) = reference.draw()
        let engine = NativeEngine(threads: 1)
        // One SGD step of rate 1 is the gradient.
        let plain = try engine.makeModel(reference.spec)
        try plain.load(parameters: start)
        let counts = try plain.train(
            on: table, rows: table.trainingRows,
            options: TrainingOptions(
                optimizer: OptimizerSpec(name: .sgd), batchSize: reference.batch, learningRate: 1, classWeights: reference.weights),
            shouldContinue: { true })
        #expect(abs(try #require(counts.loss) - reference.loss) <= 1e-5 * max(1, reference.loss))
        let gradient = zip(start, try plain.parameters()).map { Double($0) - Double($1) }
        check(gradient, reference.gradient, within: 1e-4, comment: "the gradient")

        let about = reference.optimizer
        let model = try engine.makeModel(reference.spec)
        try model.load(parameters: start)
        let options = TrainingOptions(
            optimizer: OptimizerSpec(
                name: about.name, momentum: about.momentum ?? 0, nesterov: about.nesterov ?? false, weightDecay: about.weightDecay ?? 0),
            batchSize: reference.batch, learningRate: about.lr, classWeights: reference.weights)
        for _ in 0..<reference.steps {
            _ = try model.train(on: table, rows: table.trainingRows, options: options, shouldContinue: { true })
        }
        check(
            try model.parameters().map(Double.init), reference.parameters, within: 1e-4,
            comment: "the parameters after \(reference.steps) steps")
    }
}
