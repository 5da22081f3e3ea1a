import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The loss in accuracy (or R²) when one column's values are shuffled among the held-out rows (Breiman 2001, "Random Forests"): how much the model relies
/// on that column. Columns with the same information share it.
struct ColumnImportance {
    /// Multiplications that it may take: a fraction of a second of one core.
    private static let work = 200_000_000
    private static let (fewestRows, mostColumns, mostShuffles) = (32, 200, 3)

    private let model: any TrainableModel
    private let table: FeatureTable
    private let schema: TableSchema
    private let seed: UInt64

    init(_ model: any TrainableModel, on table: FeatureTable, schema: TableSchema, seed: UInt64) {
        self.model = model
        self.table = table
        self.schema = schema
        self.seed = seed
    }

    /// - Returns: the most important first; nil when there are too few rows, or too much to compute.
    func all() throws -> [Evaluation.Importance]? {
        var columns: [(name: String, features: Range<Int>)] = []
        var start = 0
        for column in schema.columns where column.featureCount > 0 {
            columns.append((column.name, start..<(start + column.featureCount)))
            start += column.featureCount
        }
        guard (2...Self.mostColumns).contains(columns.count), start == table.featureCount else { return nil }
        let most = Self.work / max(model.spec.parameterCount * columns.count, 1)
        let rows = min(table.rowCount, most)
        guard rows >= Self.fewestRows else { return nil }
        let shuffles = max(1, min(Self.mostShuffles, most / rows))
        // An even choice of the rows.
        let chosen = (0..<rows).map { $0 * table.rowCount / rows }
        let width = table.featureCount
        let whole = chosen.flatMap { table.features(of: $0..<($0 + 1)) }
        let targets = chosen.map(table.target)
        let base = try measure(whole, targets)
        var generator = SeededGenerator(seed: seed, purpose: "importance")
        var shuffled = whole
        let found = try columns.map { column in
            var sums = (loss: 0.0, accuracy: 0.0)
            for _ in 0..<shuffles {
                let order = Array(0..<rows).shuffled(using: &generator)
                for row in 0..<rows {
                    for feature in column.features { shuffled[row * width + feature] = whole[order[row] * width + feature] }
                }
                let measured = try measure(shuffled, targets)
                sums.loss += measured.loss - base.loss
                sums.accuracy += base.accuracy - measured.accuracy
            }
            for row in 0..<rows {
                for feature in column.features { shuffled[row * width + feature] = whole[row * width + feature] }
            }
            return Evaluation.Importance(
                column: column.name, loss: sums.loss / Double(shuffles),
                accuracy: schema.task == .classification ? sums.accuracy / Double(shuffles) : nil)
        }
        // A model that diverged stands on nothing.
        guard found.allSatisfy({ $0.loss.isFinite }) else { return nil }
        return found.sorted { ($1.loss, $0.column) < ($0.loss, $1.column) }
    }

    private func measure(_ features: [Float], _ targets: [Float]) throws -> (loss: Double, accuracy: Double) {
        let outputs = try model.predict(features, rowCount: targets.count)
        let count = model.spec.outputs
        var (loss, right) = (0.0, 0)
        for (row, target) in targets.enumerated() {
            let own = outputs[(row * count)..<((row + 1) * count)]
            if schema.task == .classification {
                let actual = own.startIndex + Int(target)
                loss -= log(Double(max(own[actual], .leastNormalMagnitude)))
                if own.max() == own[actual] { right += 1 }
            } else {
                let error = Double(own[own.startIndex] - target)
                loss += error * error
            }
        }
        return (loss / Double(targets.count), Double(right) / Double(targets.count))
    }
}
