public import CohortCore

/// Some rows of a table, and the range of its numbers, for the person who tries a model of it.
public struct TableSample: Encodable, Sendable {
    public struct Row: Encodable, Sendable {
        /// Column name → value: numbers in the notation of programs, texts as they are, nil for missing values. Features only.
        public var values: [String: String?]
        /// The value of the target column.
        public var target: String?
    }

    public struct Column: Encodable, Sendable {
        /// The median of the values; numeric columns only, as the others.
        public var middle: Double
        public var least: Double
        public var most: Double
    }

    public var rows: [Row]
    /// The numeric columns by name.
    public var columns: [String: Column]

    /// No rows are there.
    public static let empty = TableSample(rows: [], columns: [:])

    /// The maximum number of characters of a text.
    private static let longest = 200

    /// Reads a small file into memory; blocks its thread.
    /// - Parameters:
    ///   - schema: that of the model, whose columns the file has in this order.
    ///   - count: of rows, evenly chosen.
    /// - Throws: ``CohortError`` `invalid`, with line and column.
    public static func read(csvAt path: String, schema: TableSchema, count: Int) throws -> TableSample {
        let reader = CSVReader(path: path, format: try CSVFormat(of: path))
        let isFeature = schema.columns.map { [.numeric, .categorical, .date].contains($0.kind) }
        var rows: [Row] = []
        var numbers = [[Double]](repeating: [], count: schema.columns.count)
        var isHeader = schema.hasHeader
        try reader.forEach { record in
            defer { isHeader = false }
            guard !isHeader, record.count == schema.columns.count else { return true }
            var row = Row(values: [:], target: nil)
            for (index, column) in schema.columns.enumerated() {
                let bytes = record.trimmed(index)
                let isNumber = column.kind == .numeric || column.kind == .target && schema.task == .regression
                let number = isNumber ? Cell.number(bytes, comma: schema.takesComma) : nil
                if let number { numbers[index].append(number) }
                let text: String? =
                    if let number { Cell.label(number) } else if isNumber || Cell.isMissing(bytes) { nil } else {
                        record.text(index).printable(max: longest)
                    }
                if column.kind == .target { row.target = text } else if isFeature[index] { row.values[column.name] = .some(text) }
            }
            rows.append(row)
            return true
        }
        var columns: [String: Column] = [:]
        for (column, values) in zip(schema.columns, numbers) where column.kind == .numeric {
            let sorted = values.sorted()
            guard let least = sorted.first, let most = sorted.last else { continue }
            columns[column.name] = Column(middle: sorted[sorted.count / 2], least: least, most: most)
        }
        let step = max(1, rows.count / max(1, count))
        return TableSample(rows: stride(from: 0, to: rows.count, by: step).prefix(count).map { rows[$0] }, columns: columns)
    }
}
