import CohortCore
import CohortTraining
import Testing

@testable import CohortPeer

/// Two peers whose rows lie on different lines, and one line for both.
@Suite struct ControlVariatesTests {
    private let engine = NativeEngine(threads: 1)
    private let spec = ModelSpec(inputs: 1, hidden: [], outputs: 1, task: .regression)
    private let tables = [
        FeatureTable(features: [-1, 0, 1, 2], targets: [-1, 1, 3, 5], featureCount: 1),
        FeatureTable(features: [1, 2, 3, 4], targets: [2, 1, 0, -1], featureCount: 1),
    ]
    private let steps = 20
    private let options = TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 8, learningRate: 0.02)

    private func train(_ model: any TrainableModel, on table: FeatureTable, from start: [Float], steps: Int) throws -> [Float] {
        try model.load(parameters: start)
        for _ in 0..<steps {
            _ = try model.train(on: table, rows: Array(0..<UInt32(table.rowCount)), options: options, shouldContinue: { true })
        }
        return try model.parameters()
    }

    /// Rounds of full-batch steps on each peer; each loses its variate in the round that is named.
    private func rounds(_ count: Int, corrects: Bool, lostIn lost: Int? = nil) throws -> [Float] {
        var weights: [Float] = [0, 0]
        var ofAll: [Float] = [0, 0]
        var own = [[Float]?](repeating: nil, count: 2)
        for round in 0..<count {
            if round == lost { own = [nil, nil] }
            var updates: [[Float]] = []
            for (peer, table) in tables.enumerated() {
                let model = try engine.makeModel(spec)
                let variates = ControlVariates(ofAll: ofAll, own: own[peer] ?? ofAll)
                try model.load(correction: corrects ? variates.correction : nil)
                updates.append(try train(model, on: table, from: weights, steps: steps))
                own[peer] = variates.next(from: weights, to: updates[peer], rates: Double(steps) * options.learningRate)
            }
            weights = zip(updates[0], updates[1]).map { ($0 + $1) / 2 }
            ofAll = zip(own[0] ?? [], own[1] ?? []).map { ($0 + $1) / 2 }
        }
        return weights
    }

    @Test func `peers with different rows meet at the optimum of all rows`() throws {
        let all = FeatureTable(features: [-1, 0, 1, 2, 1, 2, 3, 4], targets: [-1, 1, 3, 5, 2, 1, 0, -1], featureCount: 1)
        let optimum = try train(try engine.makeModel(spec), on: all, from: [0, 0], steps: 5_000)
        func distance(_ weights: [Float]) -> Float { zip(weights, optimum).map { abs($0 - $1) }.max() ?? .infinity }
        let plain = distance(try rounds(300, corrects: false))
        #expect(plain > 0.1, "without a correction they meet elsewhere: \(plain)")
        #expect(distance(try rounds(300, corrects: true)) < 1e-3)
        // A peer that lost its variate begins without a correction, and still converges.
        #expect(distance(try rounds(300, corrects: true, lostIn: 40)) < 1e-3)
    }

    @Test func `a variate is the mean gradient of the steps, and stays where there was none`() {
        let variates = ControlVariates(ofAll: [1, 2], own: [3, -1])
        #expect(variates.correction == [-2, 3])
        // Two steps of 0.5 by gradients of mean (4, 6), each with the correction: −0.5·(4 − 2 + 4 − 2), −0.5·(6 + 3 + 6 + 3).
        #expect(variates.next(from: [10, 10], to: [8, 1], rates: 1) == [4, 6])
        #expect(variates.next(from: [10, 10], to: [10, 10], rates: 0) == [3, -1])
    }
}
