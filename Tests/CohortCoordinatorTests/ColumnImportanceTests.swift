import CohortCore
import CohortTraining
import FoundationEssentials
import Testing

@testable import CohortCoordinator

/// How much a model stands on each column.
@Suite struct ColumnImportanceTests {
    private static func schema(_ task: LearningTask) -> TableSchema {
        var shape = TableSchema.Column(name: "shape", kind: .categorical)
        shape.categories = ["round", "square"]
        return TableSchema(
            hasHeader: true, delimiter: ",",
            columns: [
                .init(name: "noise", kind: .numeric, mean: 0, std: 1), .init(name: "y", kind: .target, mean: 0, std: 1), shape,
                .init(name: "size", kind: .numeric, mean: 0, std: 1),
            ], target: "y", task: task, classes: task == .classification ? ["a", "b"] : [], validation: 0.2, splitSeed: 1, trainingRows: 0,
            validationRows: 100, droppedRows: 0)
    }

    /// Columns noise, round, square, size: size decides alone, and the model knows it.
    private static func measure(_ task: LearningTask, rows: Int = 100, seed: UInt64 = 1) throws -> [Evaluation.Importance]? {
        let schema = schema(task)
        let spec = ModelSpec(inputs: 4, hidden: [], outputs: task == .classification ? 2 : 1, task: task)
        let model = try NativeEngine(threads: 1).makeModel(spec)
        try model.load(parameters: task == .classification ? [0, 0, 0, -9, 0, 0, 0, 9, 0, 0] : [0, 0, 0, 1, 0])
        let features = UnsafeMutablePointer<Float>.allocate(capacity: rows * 4)
        let targets = UnsafeMutablePointer<Float>.allocate(capacity: rows)
        for row in 0..<rows {
            let size: Float = row % 2 == 0 ? -1 : 1
            for (column, value) in [Float(row % 7), row % 3 == 0 ? 1 : 0, row % 3 == 0 ? 0 : 1, size].enumerated() {
                features[row * 4 + column] = value
            }
            targets[row] = task == .classification ? (size > 0 ? 1 : 0) : size
        }
        nonisolated(unsafe) let memory = (features, targets)
        let table = FeatureTable(
            .dense(features: features, targets: targets), rowCount: rows, featureCount: 4, trainingRows: [],
            validationRows: (0..<UInt32(rows)).map { $0 },
            release: {
                memory.0.deallocate()
                memory.1.deallocate()
            })
        return try ColumnImportance(model, on: table, schema: schema, seed: seed).all()
    }

    @Test func `the column that decides comes first, and columns without weight lose nothing`() throws {
        let found = try #require(try Self.measure(.classification))
        #expect(found.map(\.column) == ["size", "noise", "shape"])
        // Half of the rows get the other sign.
        #expect(abs((found[0].accuracy ?? 0) - 0.5) < 0.2 && found[0].loss > 1, "\(found[0])")
        #expect(found.dropFirst().allSatisfy { $0.loss == 0 && $0.accuracy == 0 })
        let quantity = try #require(try Self.measure(.regression))
        // Of two independent values of -1 and 1, half the pairs differ by 2: a mean squared error of 2.
        #expect(quantity[0].column == "size" && abs(quantity[0].loss - 2) < 0.8 && quantity[0].accuracy == nil, "\(quantity[0])")
    }

    @Test func `the same seed gives the same numbers, and too few rows none`() throws {
        #expect(try Self.measure(.classification) == Self.measure(.classification))
        #expect(try Self.measure(.classification)?[0] != Self.measure(.classification, seed: 2)?[0])
        #expect(try Self.measure(.classification, rows: 31) == nil)
    }
}
