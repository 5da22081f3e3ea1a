import CohortCore

/// An even choice of training rows, to look at what a pass cannot count: medians, far values, columns that tell the target.
struct RowSample {
    /// Cells in it, at most.
    private static let cells = 400_000

    private let wanted: Int
    private let total: Int
    private var seen = 0
    private(set) var count = 0
    /// The target's values: the class's index, or the number.
    private(set) var targets: [Double] = []
    /// The numbers of each numeric column; NaN: missing.
    private(set) var numbers: [Int: [Double]]
    /// The numbers of each ignored id column; NaN: missing.
    private(set) var ids: [Int: [Double]]
    /// The hashes of each text column's texts; 0: missing.
    private(set) var texts: [Int: [UInt64]]
    private let comma: Bool

    /// - Parameters:
    ///   - total: training rows there are, about.
    ///   - ids: columns that are left out as ids and have numbers.
    init(_ schema: TableSchema, total: Int, ids: [Int]) {
        func columns(_ kind: TableSchema.ColumnKind) -> [Int] { schema.columns.indices.filter { schema.columns[$0].kind == kind } }
        let (numeric, categorical) = (columns(.numeric), columns(.categorical))
        wanted = min(4_096, max(64, Self.cells / max(1, numeric.count + categorical.count)))
        self.total = max(1, total)
        comma = schema.takesComma
        numbers = Dictionary(uniqueKeysWithValues: numeric.map { ($0, []) })
        self.ids = Dictionary(uniqueKeysWithValues: ids.map { ($0, []) })
        texts = Dictionary(uniqueKeysWithValues: categorical.map { ($0, []) })
    }

    /// Takes the next training row, or not.
    mutating func add(_ record: CSVRecord, target: Double) {
        defer { seen += 1 }
        guard count < wanted, seen * wanted >= count * total else { return }
        count += 1
        targets.append(target)
        for index in numbers.keys { numbers[index]?.append(Cell.number(record.trimmed(index), comma: comma) ?? .nan) }
        for index in ids.keys { ids[index]?.append(Cell.number(record.trimmed(index), comma: comma) ?? .nan) }
        for index in texts.keys {
            let bytes = record.trimmed(index)
            let isMissing = Cell.isMissing(bytes, none: false)
            texts[index]?.append(
                isMissing ? 0 : bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 })
        }
    }

    /// A column's numbers in the sample, sorted.
    func sorted(_ index: Int) -> [Double] { numbers[index, default: []].filter { !$0.isNaN }.sorted() }
}
