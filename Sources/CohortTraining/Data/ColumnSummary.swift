public import CohortCore

/// The distribution of a column's values, for users.
public struct ColumnSummary: Codable, Hashable, Sendable {
    /// The counts of numbers in bins of equal width from ``least`` to ``most``, or of the most frequent texts.
    public var counts: [Int]
    public var least: Double?
    public var most: Double?
    /// The most frequent texts, in the order of ``counts``.
    public var examples: [String]?

    private static let bins = 12
    private static let texts = 8
    /// The maximum number of distinct texts of a column, and of characters of one.
    private static let maxTexts = 10_000
    private static let longest = 60

    /// Summarizes each column of a small file, which is read into memory column by column.
    /// - Throws: ``CohortError`` `invalid`, with line and column.
    public static func all(csvAt path: String, schema: TableSchema) throws -> [ColumnSummary] {
        let reader = CSVReader(path: path, format: try CSVFormat(of: path))
        let comma = schema.takesComma
        // A target that is a class is text as others are.
        let isNumeric = schema.columns.map { $0.kind == .numeric || $0.kind == .target && schema.task == .regression }
        var numbers = [[Double]](repeating: [], count: schema.columns.count)
        var counts = [[String: Int]](repeating: [:], count: schema.columns.count)
        var isHeader = schema.hasHeader
        try reader.forEach { record in
            defer { isHeader = false }
            guard !isHeader else { return true }
            for index in 0..<min(record.count, schema.columns.count) {
                let bytes = record.trimmed(index)
                if isNumeric[index] {
                    if let value = Cell.number(bytes, comma: comma) { numbers[index].append(value) }
                } else if !Cell.isMissing(bytes, none: false), counts[index].count < maxTexts {
                    counts[index][String(decoding: bytes.prefix(4 * longest), as: UTF8.self).printable(max: longest), default: 0] += 1
                }
            }
            return true
        }
        return schema.columns.indices.map { isNumeric[$0] ? ColumnSummary(numbers[$0]) : ColumnSummary(counts[$0]) }
    }

    init(_ numbers: [Double]) {
        guard let least = numbers.min(), let most = numbers.max() else {
            counts = []
            return
        }
        var counts = [Int](repeating: 0, count: Self.bins)
        // Halves, as the whole may overflow.
        let width = most / 2 - least / 2
        for number in numbers {
            let place = width > 0 ? (number / 2 - least / 2) / width * Double(Self.bins) : 0
            counts[min(Self.bins - 1, Int(place))] += 1
        }
        (self.counts, self.least, self.most) = (counts, least, most)
    }

    init(_ texts: [String: Int]) {
        let first = texts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(Self.texts)
        counts = first.map(\.value)
        examples = first.map(\.key)
    }
}
