import CKernels
public import CohortCore

/// Turns one raw row into features, as a table's schema says: a missing number is 0 (the mean), a missing or unseen category all zeros.
public struct RowTransform: Sendable {
    public let schema: TableSchema
    /// How many features a row becomes.
    let featureCount: Int
    private let encoders: [Encoder]
    private let names: Set<String>
    private let comma: Bool
    /// What is done with a record, one after the other.
    private let steps: [Step]

    private enum Encoder: Sendable {
        case skip
        case number(mean: Double, std: Double)
        case category(indices: [String: Int], count: Int)
        case date(DateFormat, [TableSchema.Column.Part])
    }

    private enum Step: Sendable {
        /// Columns of numbers that are next to each other.
        case numbers(Range<Int>, means: [Double], stds: [Double])
        /// A category, or a date.
        case other(Int)

        var first: Int {
            switch self {
            case .numbers(let run, _, _): run.lowerBound
            case .other(let index): index
            }
        }
    }

    public init(schema: TableSchema) {
        self.schema = schema
        featureCount = schema.featureCount
        names = Set(schema.columns.map(\.name))
        comma = schema.takesComma
        encoders = schema.columns.map { column in
            switch column.kind {
            case .numeric: .number(mean: column.mean ?? 0, std: column.std ?? 1)
            case .categorical:
                .category(
                    indices: Dictionary((column.categories ?? []).enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first }),
                    count: column.categories?.count ?? 0)
            case .date: .date(column.dateFormat ?? .ymd, column.parts ?? [])
            case .ignored, .target: .skip
            }
        }
        let runs = schema.runs { $0.kind == .numeric }.map { run in
            Step.numbers(run, means: run.map { schema.columns[$0].mean ?? 0 }, stds: run.map { schema.columns[$0].std ?? 1 })
        }
        let others = schema.columns.indices.filter { [.categorical, .date].contains(schema.columns[$0].kind) }.map { Step.other($0) }
        steps = (runs + others).sorted { $0.first < $1.first }
    }

    /// A row by column name, values as the CSV has them. A column that is not there counts as missing; the target is ignored.
    /// - Throws: ``CohortError`` `invalid` for a name that is no column, and for text in a numeric column.
    public func features(of row: [String: String?]) throws -> [Float] {
        if let name = row.keys.filter({ !names.contains($0) }).min() {
            let expected = schema.columns.filter { $0.featureCount > 0 }.map(\.name)
            let list = expected.prefix(30).joined(separator: ", ") + (expected.count > 30 ? ", … (\(expected.count) in all)" : "")
            throw CohortError(.invalid, "there is no column '\(name)'; the model predicts from \(list)")
        }
        var features = [Float](repeating: 0, count: featureCount)
        try features.withUnsafeMutableBufferPointer { features in
            var offset = 0
            for (column, encoder) in zip(schema.columns, encoders) {
                guard let text = row[column.name] ?? nil else {
                    offset += column.featureCount
                    continue
                }
                offset = try text.withBytes { try encode($0.trimmed, encoder, column.name, line: nil, into: features, at: offset) }
            }
        }
        return features
    }

    /// A CSV record's features; `features` holds ``featureCount`` zeros.
    func encode(_ record: CSVRecord, into features: UnsafeMutableBufferPointer<Float>) throws {
        var offset = 0
        for step in steps {
            switch step {
            case .numbers(let run, let means, let stds):
                var index = run.lowerBound
                while index < run.upperBound {
                    let done = index - run.lowerBound
                    let next = withUnsafePointer(to: record.fields) { record in
                        means.withUnsafeBufferPointer { means in
                            stds.withUnsafeBufferPointer { stds in
                                cohort_csv_standardize(
                                    record, index, run.upperBound, comma ? 1 : 0, means.baseAddress?.advanced(by: done),
                                    stds.baseAddress?.advanced(by: done), features.baseAddress?.advanced(by: offset))
                            }
                        }
                    }
                    offset += next - index
                    index = next
                    // Not a plain number.
                    if index < run.upperBound {
                        offset = try encode(record, index, into: features, at: offset)
                        index += 1
                    }
                }
            case .other(let index):
                offset = try encode(record, index, into: features, at: offset)
            }
        }
    }

    private func encode(
        _ record: CSVRecord, _ index: Int, into features: UnsafeMutableBufferPointer<Float>, at offset: Int
    ) throws -> Int {
        try encode(record.trimmed(index), encoders[index], schema.columns[index].name, line: record.line, into: features, at: offset)
    }

    private func encode(
        _ bytes: CellBytes, _ encoder: Encoder, _ name: String, line: Int?, into features: UnsafeMutableBufferPointer<Float>,
        at offset: Int
    ) throws -> Int {
        func failure(_ what: String) -> CohortError {
            CohortError(
                .invalid, "\(line.map { "line \($0): " } ?? "")'\(String(decoding: bytes.prefix(40), as: UTF8.self))' in '\(name)' \(what)")
        }
        switch encoder {
        case .skip:
            return offset
        case .number(let mean, let std):
            if let number = Cell.number(bytes, comma: comma) {
                features[offset] = Float((number - mean) / std)
                guard features[offset].isFinite else { throw failure("is too far from the values the model was made from") }
            } else if !Cell.isMissing(bytes) {
                throw failure("is not a number")
            }
            return offset + 1
        case .category(let indices, let count):
            if let index = indices[String(decoding: bytes, as: UTF8.self)] { features[offset + index] = 1 }
            return offset + count
        case .date(let format, let parts):
            if let date = CalendarDate(bytes, format) {
                for (index, part) in parts.enumerated() { features[offset + index] = Float((date.part(part.part) - part.mean) / part.std) }
            } else if !Cell.isMissing(bytes) {
                throw failure("is not a date (\(format.example)) of a day that there is")
            }
            return offset + parts.count
        }
    }
}
