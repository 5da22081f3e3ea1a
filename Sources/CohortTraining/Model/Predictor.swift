import CohortCore

/// Predicts raw rows with a model file, on the CPU. Blocks its thread; belongs to one at a time.
public final class Predictor {
    public let file: ModelFile
    private let transform: RowTransform
    private let model: SimpleDNN

    /// What is predicted for one row.
    public struct Prediction: Hashable, Sendable {
        /// Classification: the most likely class.
        public var label: String?
        /// Regression: in the target's own units.
        public var value: Double?
        /// Classification: class → probability.
        public var probabilities: [String: Double]
    }

    public init(_ file: ModelFile) throws {
        self.file = file
        transform = RowTransform(schema: file.schema)
        model = try SimpleDNN(file.spec, optimizer: OptimizerSpec(), parameters: file.parameters, seed: 0, threads: 1)
    }

    /// - Parameter rows: by column name, values as a CSV has them; nil or absent is a missing value.
    /// - Throws: ``CohortError`` `invalid`, naming the row (from 1) and the column.
    public func predict(_ rows: [[String: String?]]) throws -> [Prediction] {
        // A block at a time: a row may become many thousand features.
        let block = max(1, min(256, (1 << 22) / max(file.spec.inputs, 1)))
        var predictions: [Prediction] = []
        predictions.reserveCapacity(rows.count)
        var features: [Float] = []
        for start in stride(from: 0, to: rows.count, by: block) {
            let end = min(start + block, rows.count)
            features.removeAll(keepingCapacity: true)
            for index in start..<end {
                do {
                    features.append(contentsOf: try transform.features(of: rows[index]))
                } catch let error as CohortError {
                    throw CohortError(error.code, "row \(index + 1): \(error.message)")
                }
            }
            predictions += outputs(try model.predict(features, rowCount: end - start), end - start)
        }
        return predictions
    }

    /// Predicts the rows of a CSV, in order, a batch at a time; its target column may be absent. Columns are told by the header; a model
    /// made without one takes them by position.
    /// - Parameter body: a prediction and the row's own target text, if it has one; false to stop.
    public func predict(csvAt path: String, _ body: (Prediction, _ target: String?) throws -> Bool) throws {
        var names: [String]?
        var rows: [[String: String?]] = []
        var stopped = false
        func flush() throws {
            for (prediction, row) in zip(try predict(rows), rows) where !stopped {
                stopped = try !body(prediction, row[file.schema.target].flatMap { $0 })
            }
            rows.removeAll(keepingCapacity: true)
        }
        try CSVReader(path: path, format: CSVFormat(of: path)).forEach { record in
            let fields = (0..<record.count).map(record.text)
            guard let columns = names else {
                if file.schema.hasHeader {
                    let known = Set(file.schema.columns.map(\.name))
                    if let unknown = fields.first(where: { !known.contains($0) }) {
                        throw CohortError(
                            .invalid,
                            "line 1: the model knows no column '\(unknown)'; its columns are \(file.schema.columns.map(\.name).joined(separator: ", "))"
                        )
                    }
                    names = fields
                    return true
                }
                names = file.schema.columns.map(\.name)
                rows.append(Dictionary(zip(names ?? [], fields.map { $0 as String? }), uniquingKeysWith: { first, _ in first }))
                return true
            }
            try record.check(columns: columns.count, hasHeader: file.schema.hasHeader)
            rows.append(Dictionary(zip(columns, fields.map { $0 as String? }), uniquingKeysWith: { first, _ in first }))
            if rows.count == 256 { try flush() }
            return !stopped
        }
        if !stopped { try flush() }
    }

    private func outputs(_ outputs: [Float], _ rows: Int) -> [Prediction] {
        let width = file.spec.outputs
        let target = file.schema.columns.first { $0.kind == .target }
        return (0..<rows).map { row in
            let row = outputs[(row * width)..<((row + 1) * width)]
            switch file.spec.task {
            case .regression:
                let value = Double(row[row.startIndex]) * (target?.std ?? 1) + (target?.mean ?? 0)
                return Prediction(label: nil, value: value, probabilities: [:])
            case .classification:
                let best = row.indices.max { row[$0] < row[$1] } ?? row.startIndex
                return Prediction(
                    label: file.schema.classes[best - row.startIndex], value: nil,
                    probabilities: Dictionary(zip(file.schema.classes, row.map(Double.init)), uniquingKeysWith: { first, _ in first }))
            }
        }
    }
}
