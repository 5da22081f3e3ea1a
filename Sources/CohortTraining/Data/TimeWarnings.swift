import CohortCore

/// Time that hides in whole numbers: in ids, which are left out, and in months such as 202401.
enum TimeWarnings {
    /// The improvement over guessing by the neighboring rows of an id from which it is reported: 1 is perfect.
    private static let telling = 0.2
    /// Rows on both sides whose mean is the guess.
    private static let neighbours = 7

    static func of(_ schema: TableSchema, _ sample: RowSample) -> [String] { ids(schema, sample) + months(schema, sample) }

    /// Ids that were given in the order of time, or of place: rows near one another are alike in the target.
    private static func ids(_ schema: TableSchema, _ sample: RowSample) -> [String] {
        sample.ids.keys.sorted().compactMap { index -> String? in
            guard let values = sample.ids[index] else { return nil }
            let order = values.indices.filter { !values[$0].isNaN }.sorted { (values[$0], $0) < (values[$1], $1) }
            let targets = order.map { sample.targets[$0] }
            guard targets.count >= 100, !isSorted(targets, schema.task) else { return nil }
            let score = scoreByNeighbours(targets, schema.task)
            guard score >= telling else { return nil }
            let name = schema.columns[index].name
            return
                "'\(name)' is left out as an id, but rows that follow one another in it are alike in '\(schema.target)' (R² \((score * 100).rounded() / 100)): if it stands for time, --use \(name) keeps it, and the score on held-out rows, which lie between the others, flatters"
        }
    }

    /// Returns whether the rows were sorted by the target itself, which does not show time.
    private static func isSorted(_ targets: [Double], _ task: LearningTask) -> Bool {
        let steps = zip(targets, targets.dropFirst()).map { $1 - $0 }
        guard task == .regression else { return steps.count { $0 != 0 } <= 2 * Set(targets).count }
        let (rises, falls) = (steps.count { $0 > 0 }, steps.count { $0 < 0 })
        return min(rises, falls) * 50 <= max(rises, falls)
    }

    /// R² (of classes: of their indicators) when each row is predicted by the mean of the neighboring rows; below 0 where those do not help.
    private static func scoreByNeighbours(_ targets: [Double], _ task: LearningTask) -> Double {
        let labels: [Double?] = task == .classification ? Set(targets).sorted().map { $0 } : [nil]
        // More classes than that cost time and tell nothing more.
        guard labels.count <= 20 else { return 0 }
        var (error, all) = (0.0, 0.0)
        for label in labels {
            let values = targets.map { target in label.map { target == $0 ? 1 : 0 } ?? target }
            let mean = values.reduce(0, +) / Double(values.count)
            for row in values.indices {
                let around = max(0, row - neighbours)...min(values.count - 1, row + neighbours)
                let guess = (values[around].reduce(0, +) - values[row]) / Double(around.count - 1)
                error += (values[row] - guess) * (values[row] - guess)
                all += (values[row] - mean) * (values[row] - mean)
            }
        }
        return all > 0 ? 1 - error / all : 0
    }

    /// Numbers such as 202412, after which comes 202501.
    private static func months(_ schema: TableSchema, _ sample: RowSample) -> [String] {
        schema.columns.indices.compactMap { index -> String? in
            guard schema.columns[index].kind == .numeric, let values = sample.numbers[index] else { return nil }
            let known = values.filter { !$0.isNaN }
            let different = Set(known)
            guard known.count >= 20, different.count >= 6, different.allSatisfy(isMonth), let first = known.first else { return nil }
            let text = String(Int(first))
            return
                "'\(schema.columns[index].name)' looks like year and month in one number (\(text)), in which December is far from January: written as \(text.prefix(4))-\(text.suffix(2)) it is read as a date"
        }
    }

    private static func isMonth(_ value: Double) -> Bool {
        value.rounded() == value && 190_001...209_912 ~= value && 1...12 ~= value.truncatingRemainder(dividingBy: 100)
    }
}
