public import CohortCore

/// Predicts raw rows with a model file, on the CPU. Blocks its thread; belongs to one at a time.
public final class Predictor {
    public let file: ModelFile
    private let transform: RowTransform
    private let model: any TrainableModel

    /// The prediction for one row.
    public struct Prediction: Hashable, Sendable {
        /// Classification: the most likely class.
        public var label: String?
        /// Regression: in the target's own units.
        public var value: Double?
        /// Classification: class → probability.
        public var probabilities: [String: Double]
    }

    /// - Parameter engine: runs the code of a custom module.
    /// - Throws: ``CohortError`` `invalid` for a module without an engine.
    public init(_ file: ModelFile, engine: (any TrainingEngine)? = nil) throws {
        self.file = file
        transform = RowTransform(schema: file.schema)
        if let module = file.module {
            guard let engine else {
                throw CohortError(
                    .invalid,
                    "this model is a module of its owner's, whose code is not run here: `cohort predict FILE.safetensors data.csv` does where PyTorch is, and Examples/python/load_module.py shows how Python does"
                )
            }
            model = try engine.makeModel(file.spec, module: module)
        } else {
            model = try SimpleDNN(file.spec, threads: 1)
        }
        try model.load(parameters: file.parameters)
    }

    /// Rows that go through the net at once: a row may become many thousand features.
    private var block: Int { max(1, min(256, (1 << 22) / max(file.spec.inputs, 1))) }

    /// - Parameters:
    ///   - rows: by column name, values as a CSV has them; nil or absent is a missing value.
    ///   - allowMissing: whether columns that no row has count as missing.
    /// - Throws: ``CohortError`` `invalid`, naming the row (from 1) and the column.
    public func predict(_ rows: [[String: String?]], allowMissing: Bool = false) throws -> [Prediction] {
        if !rows.isEmpty {
            _ = try columns(
                of: rows.reduce(into: Set<String>()) { $0.formUnion($1.keys) }, allowMissing: allowMissing, how: "allow_missing")
        }
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

    /// Compares a table's columns with the schema.
    /// - Throws: ``CohortError`` `invalid` when it lacks a column that the model predicts from, unless that is allowed, and when it has none.
    private func columns(of names: Set<String>, allowMissing: Bool, how: String) throws -> (missing: [String], unknown: [String]) {
        let wanted = file.schema.columns.filter { $0.featureCount > 0 }.map(\.name)
        let missing = wanted.filter { !names.contains($0) }
        let known = Set(file.schema.columns.map(\.name))
        let unknown = names.filter { !known.contains($0) }.sorted()
        guard missing.isEmpty || allowMissing && missing.count < wanted.count else {
            let others = unknown.isEmpty ? "" : "; it knows no \(SchemaInference.list(unknown.map { "'\($0)'" }))"
            throw CohortError(
                .invalid,
                missing.count == wanted.count
                    ? "there is no column that the model predicts from: it wants \(SchemaInference.list(wanted))\(others)"
                    : "columns are missing that the model predicts from: \(SchemaInference.list(missing))\(others) (\(how): count them as missing values)"
            )
        }
        return (missing, unknown)
    }

    /// A row of the CSV that is predicted.
    public struct Row: Sendable {
        /// That it begins on, from 1.
        public let line: Int
        /// The row's own target, if the file has one.
        public let target: String?
        /// All fields, when they are asked for.
        public let fields: [String]
    }

    /// Options for predicting a CSV.
    public struct Options: Sendable {
        /// Feature columns that the file lacks count as missing.
        public var allowMissing = false
        /// Rows are returned with all their fields.
        public var keepsFields = false

        public init(allowMissing: Bool = false, keepsFields: Bool = false) {
            self.allowMissing = allowMissing
            self.keepsFields = keepsFields
        }
    }

    /// Predicts the rows of a CSV, in order, a batch at a time; its target column may be absent. Columns are matched by the header; a model
    /// made without one takes them by position.
    /// - Parameters:
    ///   - begin: called once the first rows are predicted, with the names of the file's columns and what a person should know.
    ///   - body: a prediction and its row; false to stop.
    /// - Throws: ``CohortError`` `invalid`, naming the line and the column.
    public func predict(
        csvAt path: String, options: Options = Options(), begin: (_ columns: [String], _ notes: [String]) throws -> Void = { _, _ in },
        _ body: (Prediction, Row) throws -> Bool
    ) throws {
        let reader = CSVReader(path: path, format: try CSVFormat(of: path))
        let layout = try layout(reader, options)
        let transform = RowTransform(schema: file.schema, takesComma: reader.takesComma ? true : nil)
        let width = transform.featureCount
        let features = UnsafeMutableBufferPointer<Float>.allocate(capacity: block * width)
        defer { features.deallocate() }
        var rows: [Row] = []
        var hasBegun = false
        func flush() throws -> Bool {
            let predictions = outputs(try model.predict(Array(features[..<(rows.count * width)]), rowCount: rows.count), rows.count)
            if !hasBegun { try begin(layout.names, layout.notes) }
            hasBegun = true
            defer { rows.removeAll(keepingCapacity: true) }
            for (prediction, row) in zip(predictions, rows) where try !body(prediction, row) { return false }
            return true
        }
        var goesOn = true
        var isHeader = layout.hasHeader
        try reader.forEach { record in
            if isHeader {
                isHeader = false
                return true
            }
            try record.check(columns: layout.names.count, hasHeader: layout.hasHeader)
            let place = UnsafeMutableBufferPointer(rebasing: features[(rows.count * width)..<((rows.count + 1) * width)])
            place.update(repeating: 0)
            try transform.encode(record, places: layout.places, into: place)
            rows.append(
                Row(
                    line: record.line, target: layout.target.map(record.text),
                    fields: options.keepsFields ? (0..<record.count).map(record.text) : []))
            if rows.count == block { goesOn = try flush() }
            return goesOn
        }
        if goesOn, !rows.isEmpty || !hasBegun { _ = try flush() }
    }

    /// Measures the model on a CSV that has the target column.
    /// - Returns: notes about the file as well: ignored columns, rows without a target.
    /// - Throws: ``CohortError`` `invalid` for a file without the target column or without a row that has a target, and for a target that the model
    ///   does not know, with its line.
    public func evaluate(csvAt path: String, options: Options = Options()) throws -> (evaluation: Evaluation, notes: [String]) {
        let schema = file.schema
        let comma = CSVReader(path: path, format: try CSVFormat(of: path)).takesComma || schema.takesComma
        let classes = Dictionary(schema.classes.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        var tally = EvaluationTally(schema)
        var notes: [String] = []
        var without = 0
        try predict(csvAt: path, options: options, begin: { _, said in notes = said }) { prediction, row in
            guard let text = row.target else {
                throw CohortError(.invalid, "the file has no column '\(schema.target)' to compare with")
            }
            let number = Cell.number(text, comma: comma)
            if let index = classes[text] ?? number.flatMap({ classes[Cell.label($0)] }), schema.task == .classification {
                tally.add(probabilities: schema.classes.map { Float(prediction.probabilities[$0] ?? 0) }, actual: index)
            } else if Cell.isMissing(text) {
                without += 1
            } else if schema.task == .regression, let number {
                tally.add(predicted: prediction.value ?? 0, actual: number)
            } else {
                let right = schema.task == .regression ? "not a number" : "not a class of the model"
                throw CohortError(.invalid, "line \(row.line): '\(text.prefix(40))' in '\(schema.target)' is \(right)")
            }
            return true
        }
        guard let evaluation = tally.evaluation else {
            throw CohortError(.invalid, "no row of the file has a '\(schema.target)' to compare with")
        }
        if without > 0 { notes.append("\(without) rows have no '\(schema.target)' and are left out") }
        return (evaluation, notes)
    }

    /// The positions of the schema's columns in a CSV.
    private struct Layout {
        var names: [String]
        var hasHeader: Bool
        /// The position of each column of the schema in the file.
        var places: [Int?]
        var target: Int?
        var notes: [String]
    }

    private func layout(_ reader: CSVReader, _ options: Options) throws -> Layout {
        let schema = file.schema
        let target = schema.columns.firstIndex { $0.kind == .target }
        guard schema.hasHeader else {
            var first: (width: Int, line: Int)?
            try reader.forEach { record in
                first = (record.count, record.line)
                return false
            }
            guard let first else { throw CohortError(.invalid, "the file is empty: rows to predict are needed") }
            let names = schema.columns.map(\.name)
            if first.width == names.count {
                return Layout(names: names, hasHeader: false, places: names.indices.map { $0 }, target: target, notes: [])
            }
            guard first.width == names.count - 1 else {
                throw CohortError(
                    .invalid,
                    "line \(first.line): \(first.width) fields; the model was made from \(names.count) columns without a header, of which \(names.count - 1) remain without the target"
                )
            }
            return Layout(
                names: names.filter { $0 != schema.target }, hasHeader: false,
                places: names.indices.map { $0 == target ? nil : $0 < target ?? .max ? $0 : $0 - 1 }, target: nil, notes: [])
        }
        let header = try Header(reader, known: [], isThere: true)
        let (missing, unknown): ([String], [String])
        do {
            (missing, unknown) = try columns(of: Set(header.names), allowMissing: options.allowMissing, how: "--allow-missing")
        } catch let error as CohortError {
            throw CohortError(error.code, "line 1: \(error.message)")
        }
        var notes: [String] = []
        if !missing.isEmpty { notes.append("columns that are not in the file count as missing: \(SchemaInference.list(missing))") }
        if !unknown.isEmpty { notes.append("columns that the model does not know were ignored: \(SchemaInference.list(unknown))") }
        return Layout(
            names: header.names, hasHeader: true, places: schema.columns.map { header.names.firstIndex(of: $0.name) },
            target: header.names.firstIndex(of: schema.target), notes: notes)
    }

    private func outputs(_ outputs: [Float], _ rows: Int) -> [Prediction] {
        guard rows > 0 else { return [] }
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
