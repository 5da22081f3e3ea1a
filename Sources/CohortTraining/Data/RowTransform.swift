import CKernels
public import CohortCore

/// Turns one raw row into features, as a table's schema says: a missing number counts as the mean, a missing category is all zeros.
public struct RowTransform: Sendable {
    public let schema: TableSchema
    /// The number of features of a row.
    let featureCount: Int
    private let encoders: [Encoder]
    private let comma: Bool
    /// The steps that transform a record, in order.
    let steps: [Step]

    private enum Encoder: Sendable {
        case skip
        case number(shift: Double, scale: Double, missing: Float)
        case category(indices: [String: Int], count: Int, hasOther: Bool)
        case date(DateFormat, [TableSchema.Column.Part])
    }

    enum Step: Sendable {
        case numbers(NumberRun)
        /// A category, or a date.
        case other(Int)

        var first: Int {
            switch self {
            case .numbers(let run): run.columns.lowerBound
            case .other(let index): index
            }
        }
    }

    /// Columns of numbers that are next to each other.
    struct NumberRun: Sendable {
        let columns: Range<Int>
        let shifts, scales: [Double]
    }

    /// - Parameter takesComma: whether `3,5` is a number; nil: as in the file that the schema is of.
    public init(schema: TableSchema, takesComma: Bool? = nil) {
        self.schema = schema
        featureCount = schema.featureCount
        comma = takesComma ?? schema.takesComma
        encoders = schema.columns.map { column in
            switch column.kind {
            case .numeric: .number(shift: column.offset, scale: column.divisor, missing: column.missingFeature)
            case .categorical:
                .category(
                    indices: Dictionary((column.categories ?? []).enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first }),
                    count: column.featureCount, hasOther: column.hasOther == true)
            case .date: .date(column.dateFormat ?? .ymd, column.parts ?? [])
            case .ignored, .target: .skip
            }
        }
        let runs = schema.runs { $0.kind == .numeric }.map { run in
            Step.numbers(
                NumberRun(columns: run, shifts: run.map { schema.columns[$0].offset }, scales: run.map { schema.columns[$0].divisor }))
        }
        let others = schema.columns.indices.filter { [.categorical, .date].contains(schema.columns[$0].kind) }.map { Step.other($0) }
        steps = (runs + others).sorted { $0.first < $1.first }
    }

    /// A row by column name, values as the CSV has them. A column that is not there counts as missing; others than the schema's, and the target,
    /// are skipped.
    /// - Throws: ``CohortError`` `invalid` for text in a numeric column.
    public func features(of row: [String: String?]) throws -> [Float] {
        var features = [Float](repeating: 0, count: featureCount)
        try features.withUnsafeMutableBufferPointer { features in
            var offset = 0
            for (column, encoder) in zip(schema.columns, encoders) {
                let text = (row[column.name] ?? nil) ?? ""
                offset = try text.withBytes {
                    try encode($0.trimmed, by: encoder, column: column.name, line: nil, into: features, at: offset)
                }
            }
        }
        return features
    }

    /// The features of a record of another file than the schema's: `places[i]` is where it has column i, if it has it. `features` holds
    /// ``featureCount`` zeros.
    func encode(_ record: CSVRecord, places: [Int?], into features: UnsafeMutableBufferPointer<Float>) throws {
        var offset = 0
        for (index, encoder) in encoders.enumerated() {
            let bytes = places[index].map(record.trimmed) ?? CellBytes(start: nil, count: 0)
            offset = try encode(bytes, by: encoder, column: schema.columns[index].name, line: record.line, into: features, at: offset)
        }
    }

    /// A CSV record's features; `features` holds ``featureCount`` zeros.
    func encode(_ record: CSVRecord, into features: UnsafeMutableBufferPointer<Float>) throws {
        var offset = 0
        for step in steps {
            switch step {
            case .numbers(let run):
                try encode(record, run, into: UnsafeMutableBufferPointer(rebasing: features[offset..<(offset + run.columns.count)]))
                offset += run.columns.count
            case .other(let index):
                offset = try encode(
                    record.trimmed(index), by: encoders[index], column: schema.columns[index].name, line: record.line, into: features,
                    at: offset)
            }
        }
    }

    /// The features of columns of numbers, one a column.
    func encode(_ record: CSVRecord, _ run: NumberRun, into features: UnsafeMutableBufferPointer<Float>) throws {
        let columns = run.columns
        var index = columns.lowerBound
        while index < columns.upperBound {
            let done = index - columns.lowerBound
            index = withUnsafePointer(to: record.fields) { record in
                run.shifts.withUnsafeBufferPointer { shifts in
                    run.scales.withUnsafeBufferPointer { scales in
                        cohort_csv_standardize(
                            record, index, columns.upperBound, comma ? 1 : 0, shifts.baseAddress?.advanced(by: done),
                            scales.baseAddress?.advanced(by: done), features.baseAddress?.advanced(by: done))
                    }
                }
            }
            guard index < columns.upperBound else { return }
            // Not a plain number.
            _ = try encode(
                record.trimmed(index), by: encoders[index], column: schema.columns[index].name, line: record.line, into: features,
                at: index - columns.lowerBound)
            index += 1
        }
    }

    /// The feature of a category that is 1, in a record's column; nil: none is.
    func category(_ record: CSVRecord, _ index: Int) -> Int? {
        guard case .category(let indices, let count, let hasOther) = encoders[index] else { return nil }
        return Self.category(record.trimmed(index), indices: indices, count: count, hasOther: hasOther)
    }

    private static func category(_ bytes: CellBytes, indices: [String: Int], count: Int, hasOther: Bool) -> Int? {
        indices[String(decoding: bytes, as: UTF8.self)] ?? (hasOther && !Cell.isMissing(bytes) ? count - 1 : nil)
    }

    /// The date in a record's column; nil: it is missing.
    func date(_ record: CSVRecord, _ index: Int) throws -> CalendarDate? {
        guard case .date(let format, _) = encoders[index] else { return nil }
        let bytes = record.trimmed(index)
        if let date = CalendarDate(bytes, format) { return date }
        guard Cell.isMissing(bytes) else { throw noDate(bytes, format, column: schema.columns[index].name, line: record.line) }
        return nil
    }

    private func noDate(_ bytes: CellBytes, _ format: DateFormat, column: String, line: Int?) -> CohortError {
        failure(bytes, column: column, line: line, "is not a date (\(format.example)) of a day that there is")
    }

    private func failure(_ bytes: CellBytes, column: String, line: Int?, _ what: String) -> CohortError {
        CohortError(
            .invalid, "\(line.map { "line \($0): " } ?? "")'\(String(decoding: bytes.prefix(40), as: UTF8.self))' in '\(column)' \(what)")
    }

    private func encode(
        _ bytes: CellBytes, by encoder: Encoder, column name: String, line: Int?, into features: UnsafeMutableBufferPointer<Float>,
        at offset: Int
    ) throws -> Int {
        switch encoder {
        case .skip:
            return offset
        case .number(let shift, let scale, let missing):
            if let number = Cell.number(bytes, comma: comma) {
                features[offset] = Float((number - shift) / scale)
                guard features[offset].isFinite else {
                    throw failure(bytes, column: name, line: line, "is too far from the values the model was made from")
                }
            } else if !Cell.isMissing(bytes) {
                throw failure(bytes, column: name, line: line, "is not a number")
            } else {
                features[offset] = missing
            }
            return offset + 1
        case .category(let indices, let count, let hasOther):
            if let index = Self.category(bytes, indices: indices, count: count, hasOther: hasOther) { features[offset + index] = 1 }
            return offset + count
        case .date(let format, let parts):
            if let date = CalendarDate(bytes, format) {
                for (index, part) in parts.enumerated() { features[offset + index] = date.feature(part) }
            } else if !Cell.isMissing(bytes) {
                throw noDate(bytes, format, column: name, line: line)
            }
            return offset + parts.count
        }
    }
}

extension CalendarDate {
    func feature(_ part: TableSchema.Column.Part) -> Float { Float((self.part(part.part) - part.mean) / part.std) }
}

extension TableSchema.Column {
    var offset: Double { shift ?? mean ?? 0 }
    var divisor: Double { scale ?? std ?? 1 }
    /// The feature of a number that is missing: the mean's.
    var missingFeature: Float { Float(((mean ?? 0) - offset) / divisor) }
}
