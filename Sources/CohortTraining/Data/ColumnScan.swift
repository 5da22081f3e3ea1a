import CKernels
import CohortCore

/// What the first pass learns of a column: a few numbers, however many rows there are.
struct ColumnScan {
    /// Bytes of a value that are kept to compare and to show.
    private static let shown = 256

    let name: String
    let comma: Bool
    private(set) var missing = 0
    private(set) var texts = 0
    private(set) var first: [UInt8] = []
    /// What the texts may be dates of.
    private(set) var dates = DateFormats()
    /// The first value that is no number, and its line.
    private(set) var example: (text: String, line: Int)?
    /// What is known of the numbers, and whether all values are alike. While a file is read the kernel has it.
    var column = cohort_csv_column()

    init(name: String, comma: Bool) {
        self.name = name
        self.comma = comma
    }

    var numbers: Int { column.numbers }
    var values: Int { numbers + texts }
    var isNumeric: Bool { numbers > 0 && texts == 0 }
    /// All values are dates, of one format.
    var dateFormat: DateFormat? { texts > 0 && numbers == 0 && dates.possible.count == 1 ? dates.possible[0] : nil }
    /// All numbers are whole.
    var isWhole: Bool { column.is_fractional == 0 }
    var varies: Bool { column.varies != 0 }
    /// The first value, to show.
    var sample: String { String(decoding: first.prefix(40), as: UTF8.self) }

    /// Takes a value of any kind; ``ColumnScans`` takes plain numbers without it.
    mutating func add(_ bytes: CellBytes, line: Int, _ column: inout cohort_csv_column) {
        guard !Cell.isMissing(bytes) else {
            missing += 1
            return
        }
        if column.first_length == 0 {
            first = Array(bytes.prefix(Self.shown))
            column.first_length = bytes.count <= 8 ? UInt8(bytes.count) : .max
            column.first_word = bytes.prefix(8).reduce(0x3030_3030_3030_3030) { $0 >> 8 | UInt64($1) << 56 }
        } else if column.varies == 0, !bytes.prefix(Self.shown).elementsEqual(first) {
            column.varies = 1
        }
        if let number = Cell.number(bytes, comma: comma) {
            cohort_csv_column_add(&column, number)
        } else {
            texts += 1
            dates.add(bytes)
            if example == nil { example = (String(decoding: bytes.prefix(40), as: UTF8.self), line) }
        }
    }

    /// What may be meant by the first value that is no number: `1,234.5`, `1 234` and `3,5` are said to be none rather than guessed.
    var hint: String? {
        if texts > 0, numbers == 0, dates.possible.count > 1, let example {
            return
                "'\(example.text)' and all others may be day/month or month/day: write dates as 2024-12-31 to have them as year, month and weekday"
        }
        guard let (text, line) = example, text.utf8.contains(where: { $0 &- 0x30 < 10 }), text.unicodeScalars.allSatisfy(Self.isOfNumbers)
        else { return nil }
        if text.unicodeScalars.contains(where: { "%$€£¥".unicodeScalars.contains($0) }) {
            return "'\(text)' on line \(line) has a sign beside its number; write the number alone, such as 12.5"
        }
        return "'\(text)' on line \(line) has a thousands separator or a decimal comma; write numbers as 1234.5"
    }

    /// Digits, signs, points and what stands between thousands: commas, apostrophes, spaces also of the narrow and non-breaking kinds.
    private static func isOfNumbers(_ scalar: UnicodeScalar) -> Bool {
        "0123456789+-.,%$€£¥' \u{a0}\u{202f}\u{2019}".unicodeScalars.contains(scalar)
    }

    /// Whole numbers that run along with the rows: an index, no feature. Few rows may count by chance.
    var isIndex: Bool {
        guard isNumeric, isWhole, column.falls == 0, missing == 0, numbers >= 10 else { return false }
        let isCounting = column.skips == 0 && (column.first_number == 0 || column.first_number == 1)
        return isCounting || Self.namesIds(name)
    }

    private static func namesIds(_ name: String) -> Bool {
        let name = name.lowercased()
        return ["id", "index", "idx", "row", "rowid", "unnamed: 0", "#", "nr", "no"].contains(name) || name.hasSuffix("_id")
            || name.hasSuffix(" id")
    }
}

/// What the first pass learns of all columns.
struct ColumnScans {
    private var scans: [ColumnScan]
    private var columns: [cohort_csv_column]

    init(names: [String], comma: Bool) {
        scans = names.map { ColumnScan(name: $0, comma: comma) }
        columns = .init(repeating: cohort_csv_column(), count: names.count)
    }

    /// Takes the records, in order; threads divide the columns, so that each column sees what it would see alone.
    mutating func add(_ records: some Collection<CSVRecord>, _ parallel: InParallel) throws {
        try scans.withUnsafeMutableBufferPointer { scans in
            try columns.withUnsafeMutableBufferPointer { columns in
                try parallel.divide(scans.count) { part, _ in
                    for record in records { Self.add(record, part, scans, columns) }
                }
            }
        }
    }

    private static func add(
        _ record: CSVRecord, _ part: Range<Int>, _ scans: UnsafeMutableBufferPointer<ColumnScan>,
        _ columns: UnsafeMutableBufferPointer<cohort_csv_column>
    ) {
        var index = part.lowerBound
        while index < part.upperBound {
            index = withUnsafePointer(to: record.fields) {
                cohort_csv_scan($0, index, part.upperBound, scans[index].comma ? 1 : 0, columns.baseAddress)
            }
            guard index < part.upperBound else { return }
            scans[index].add(record.trimmed(index), line: record.line, &columns[index])
            index += 1
        }
    }

    func finish() -> [ColumnScan] {
        zip(scans, columns).map { scan, column in
            var scan = scan
            scan.column = column
            return scan
        }
    }
}

/// The different values of the target, up to as many as there may be classes.
struct LabelScan {
    /// nil past the bound.
    private(set) var labels: Set<String>? = []
    /// The line of a label that is too long for one.
    private(set) var longLine: Int?
    /// Short ones that came before, by ``Swift/UnsafeBufferPointer/shortKey``.
    private var known: Set<UInt64> = []

    mutating func add(_ bytes: CellBytes, line: Int) {
        let key = bytes.shortKey
        if let key, known.contains(key) { return }
        guard labels != nil, !Cell.isMissing(bytes) else { return }
        guard bytes.count <= 256 else {
            longLine = line
            labels = nil
            return
        }
        labels?.insert(String(decoding: bytes, as: UTF8.self))
        if let key { known.insert(key) }
        if (labels?.count ?? 0) > SchemaInference.mostClasses { labels = nil }
    }
}

/// Mean and standard deviation in one pass.
typealias Moments = cohort_moments

extension Moments {
    mutating func add(_ value: Double) { cohort_moments_add(&self, value) }

    /// Of the population; 0 when the values do not vary, infinite when they are too large to square.
    var deviation: Double {
        guard count > 0, squares.isFinite else { return count > 0 ? .infinity : 0 }
        let deviation = (squares / count).squareRoot()
        // Equal numbers may differ from their own mean by a rounding.
        return deviation > abs(mean) * 1e-12 ? deviation : 0
    }
}
