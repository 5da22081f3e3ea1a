import CKernels
import CohortCore

/// The result of the first pass over a column, in constant memory.
struct ColumnScan {
    /// Bytes of a value that are kept to compare and to show.
    private static let shown = 256

    let name: String
    let comma: Bool
    /// Cells without a value, but for `None`.
    private var blanks = 0
    /// Cells that hold `None`.
    private(set) var nones = 0
    private(set) var texts = 0
    private(set) var first: [UInt8] = []
    /// The date formats that all texts have.
    private(set) var dates = DateFormats()
    /// The first value that is no number, and its line.
    private(set) var example: (text: String, line: Int)?
    /// The first value that is no date where all before it are, and its line.
    private(set) var spoiltDate: (text: String, line: Int, before: Int)?
    /// Cells with a word that means "no value", such as NA, and the first such word.
    private(set) var marks = 0
    private(set) var mark: String?
    /// Statistics of the numbers, and whether all values are equal. The kernel updates it while a file is read.
    var column = cohort_csv_column()

    init(name: String, comma: Bool) {
        self.name = name
        self.comma = comma
    }

    var numbers: Int { column.numbers }
    var values: Int { numbers + texts + (noneIsWord ? nones : 0) }
    var missing: Int { blanks + (noneIsWord ? 0 : nones) }
    var isNumeric: Bool { numbers > 0 && texts == 0 }
    /// All values are dates, of one format.
    var dateFormat: DateFormat? { texts > 0 && numbers == 0 ? dates.only : nil }
    /// All numbers are whole.
    var isWhole: Bool { column.is_fractional == 0 }
    var varies: Bool { column.varies != 0 }
    /// Whole numbers of which some are written with a 0 in front, as postal codes are: as numbers they would not be what was written.
    var isCode: Bool { isNumeric && isWhole && column.has_leading_zero != 0 }
    /// The first value, to show.
    var sample: String { String(decoding: first.prefix(40), as: UTF8.self) }

    /// Takes a value of any kind; ``ColumnScans`` takes plain numbers without it.
    mutating func add(_ bytes: CellBytes, line: Int, _ column: inout cohort_csv_column) {
        if Cell.isNone(bytes) {
            nones += 1
            if column.first_length > 0 { column.varies = 1 }
            return
        }
        guard !Cell.isMissing(bytes) else {
            blanks += 1
            if !bytes.isEmpty {
                marks += 1
                if mark == nil { mark = String(decoding: bytes.prefix(40), as: UTF8.self) }
            }
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
            if let distinct = column.distinct { DistinctNumbers.makeRoom(in: &distinct.pointee, seen: column.numbers) }
            if bytes.count > 1, bytes[0] == 0x30, bytes[1] &- 0x30 < 10 { column.has_leading_zero = 1 }
            cohort_csv_column_add(&column, number)
        } else {
            texts += 1
            let wereDates = texts > 10 && !dates.possible.isEmpty
            dates.add(bytes)
            if wereDates, dates.possible.isEmpty {
                spoiltDate = (String(decoding: bytes.prefix(40), as: UTF8.self), line, texts - 1)
            }
            if example == nil { example = (String(decoding: bytes.prefix(40), as: UTF8.self), line) }
        }
    }

    /// `None` is a word where there are other words, and no value among numbers and dates.
    var noneIsWord: Bool { texts > 0 && dateFormat == nil }

    /// Whole numbers that count the rows: an index, no feature. Few rows may count accidentally.
    var countsRows: Bool {
        isNumeric && isWhole && column.falls == 0 && missing == 0 && numbers >= 10 && column.skips == 0
            && (column.first_number == 0 || column.first_number == 1)
    }

    /// The likely meaning of the first value that is not a number: `1,234.5`, `1 234` and `3,5` are reported rather than guessed.
    var hint: String? {
        if texts > 0, numbers == 0, dates.isAmbiguous, let example {
            return
                "'\(example.text)' and all others may be day/month or month/day: write dates as 2024-12-31 to have them as year, month and weekday"
        }
        if let spoiltDate, numbers == 0 {
            return "'\(spoiltDate.text)' on line \(spoiltDate.line) is not a date, the \(spoiltDate.before) values before it are"
        }
        guard let example else { return nil }
        return NumberHint.of(example.text, line: example.line)
    }
}

/// A hint for text that is almost a number.
enum NumberHint {
    /// nil for text that is none.
    static func of(_ text: String, line: Int) -> String? {
        var rest = text.unicodeScalars[...]
        guard rest.contains(where: isDigit) else { return nil }
        if let dash = rest.first, "\u{2212}\u{2013}\u{2014}\u{2010}\u{2011}".unicodeScalars.contains(dash) {
            return rest.dropFirst().allSatisfy { isDigit($0) || $0 == "." }
                ? "'\(text)' on line \(line) begins with a dash that is no minus sign; write -1.5" : nil
        }
        if rest.last?.properties.generalCategory == .control, rest.dropLast().allSatisfy({ isDigit($0) || $0 == "." }) {
            return "'\(text.dropLast())' on line \(line) has a control character behind it"
        }
        let signs = "%$€£¥ ".unicodeScalars
        let plain = rest.filter { !signs.contains($0) }
        if plain.count < rest.count, Cell.number(String(String.UnicodeScalarView(plain)), comma: true) != nil,
            rest.contains(where: { $0 != " " && signs.contains($0) })
        {
            return "'\(text)' on line \(line) has a sign beside its number; write the number alone, such as 12.5"
        }
        if let sign = rest.first, sign == "-" || sign == "+" { rest = rest.dropFirst() }
        let separators = ",.' \u{a0}\u{202f}\u{2019}".unicodeScalars
        guard rest.allSatisfy({ isDigit($0) || separators.contains($0) }), rest.contains(where: separators.contains),
            let first = rest.first, isDigit(first), let last = rest.last, isDigit(last)
        else { return nil }
        return "'\(text)' on line \(line) has a thousands separator or a decimal comma; write numbers as 1234.5"
    }

    private static func isDigit(_ scalar: UnicodeScalar) -> Bool { ("0"..."9").contains(scalar) }
}

/// The result of the first pass over all columns.
struct ColumnScans {
    private var scans: [ColumnScan]
    private var columns: [cohort_csv_column]
    /// The different numbers of each column.
    let distinct: DistinctNumbers

    init(names: [String], comma: Bool) {
        scans = names.map { ColumnScan(name: $0, comma: comma) }
        let distinct = DistinctNumbers(columns: names.count)
        self.distinct = distinct
        columns = names.indices.map { index in
            var column = cohort_csv_column()
            column.distinct = distinct.pointer(index)
            return column
        }
    }

    /// Takes the records, in order; threads divide the columns, so that each column sees what it would see alone.
    mutating func add(_ records: some Collection<CSVRecord>, _ parallel: InParallel) throws {
        try scans.withUnsafeMutableBufferPointer { scans in
            try columns.withUnsafeMutableBufferPointer { columns in
                try parallel.divide(scans.count) { part, _ in
                    for record in records { Self.add(record, part: part, to: scans, columns: columns) }
                }
            }
        }
    }

    private static func add(
        _ record: CSVRecord, part: Range<Int>, to scans: UnsafeMutableBufferPointer<ColumnScan>,
        columns: UnsafeMutableBufferPointer<cohort_csv_column>
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
            scan.column.distinct = nil
            return scan
        }
    }
}

/// Mean and standard deviation in one pass.
typealias Moments = cohort_moments

extension Moments {
    mutating func add(_ value: Double) { cohort_moments_add(&self, value) }

    /// The deviation of the population; 0 when all values are equal, infinite when they are too large to square.
    var deviation: Double {
        guard count > 0, squares.isFinite else { return count > 0 ? .infinity : 0 }
        let deviation = (squares / count).squareRoot()
        // Equal numbers may differ from their own mean by a rounding.
        return deviation > abs(mean) * 1e-12 ? deviation : 0
    }
}
