public import CohortCore

/// Tells how the columns of a CSV become features, in two passes over the file with memory that does not grow with its rows.
public enum SchemaInference {
    /// A text column of more distinct values is no feature.
    public static let mostCategories = 100
    public static let mostClasses = 1_000
    /// Whole numbers of at most so many distinct values are classes, not a quantity.
    static let mostNumberedClasses = 20
    private static let mostTracked = 2_000

    /// What was found, and what a person should know of it.
    public struct Finding: Sendable {
        public var schema: TableSchema
        public var warnings: [String]
    }

    private struct ColumnScan {
        var name: String
        var missing = 0
        var numbers = 0
        var texts = 0
        var whole = true
        /// Distinct values, up to a bound; nil past it.
        var distinct: Set<String>? = []
        /// Whole numbers that rise by one from row to row.
        var counting = true
        var previous: Double?

        var values: Int { numbers + texts }
        var isNumeric: Bool { numbers > 0 && texts == 0 }

        mutating func add(_ bytes: ArraySlice<UInt8>) {
            guard !Cell.isMissing(bytes) else {
                missing += 1
                return
            }
            if let number = Cell.number(bytes) {
                numbers += 1
                if whole, number != number.rounded() { whole = false }
                if counting {
                    if let previous, number != previous + 1 { counting = false }
                    previous = number
                }
            } else {
                texts += 1
                counting = false
            }
            if distinct != nil {
                distinct?.insert(String(decoding: bytes, as: UTF8.self))
                if (distinct?.count ?? 0) > SchemaInference.mostTracked { distinct = nil }
            }
        }
    }

    /// - Parameters:
    ///   - target: a column's name; nil: the last column.
    ///   - task: nil: told from the target's values.
    /// - Throws: ``CohortError`` `invalid`, with line and column where there is one.
    public static func infer(
        csvAt path: String, target: String?, task: LearningTask?, validation: Double, seed: UInt64,
        shouldContinue: @escaping () -> Bool = { true }
    ) throws -> Finding {
        let delimiter = try CSVReader.sniffDelimiter(path: path)
        let reader = CSVReader(path: path, delimiter: delimiter)
        let (names, hasHeader) = try header(reader)
        let targetIndex: Int
        if let target {
            guard let index = names.firstIndex(of: target) else {
                throw CohortError(.invalid, "there is no column '\(target)' to predict; the columns are \(list(names))")
            }
            targetIndex = index
        } else {
            targetIndex = names.count - 1
        }
        guard names.count >= 2 else {
            throw CohortError(.invalid, "the file has one column, '\(names[0])': a target and at least one column to predict it from are needed")
        }

        let scans = try scan(reader, names: names, hasHeader: hasHeader, shouldContinue)
        let rows = scans[0].missing + scans[0].values
        guard rows > 0 else { throw CohortError(.invalid, "the file has a header and no rows") }
        let targetScan = scans[targetIndex]
        guard targetScan.values > 0 else { throw CohortError(.invalid, "the target column '\(names[targetIndex])' has no values") }
        let task = try task ?? guess(targetScan)
        if task == .regression, !targetScan.isNumeric {
            throw CohortError(.invalid, "the target column '\(names[targetIndex])' holds text, such as '\(targetScan.distinct?.first { Cell.number(Array($0.utf8)[...]) == nil } ?? "")': a regression needs numbers")
        }
        let classes = task == .classification ? try self.classes(targetScan) : []

        var schema = TableSchema(
            hasHeader: hasHeader, delimiter: String(UnicodeScalar(delimiter)), columns: [], target: names[targetIndex], task: task,
            classes: classes, validation: validation, splitSeed: seed, trainingRows: 0, validationRows: 0, droppedRows: 0)
        schema.columns = scans.enumerated().map { index, scan in
            index == targetIndex ? TableSchema.Column(name: scan.name, kind: .target, missing: scan.missing) : column(scan, rows: rows)
        }
        try fit(&schema, reader, targetIndex: targetIndex, shouldContinue)
        guard schema.trainingRows >= 2 else {
            throw CohortError(.invalid, "only \(schema.trainingRows) of \(rows) rows can be trained on: at least 2 with a target are needed")
        }
        guard schema.featureCount > 0 else {
            let reasons = schema.columns.compactMap { column in column.note.map { "'\(column.name)': \($0)" } }
            throw CohortError(.invalid, "no column is left to predict '\(schema.target)' from (\(reasons.joined(separator: "; ")))")
        }
        return Finding(schema: schema, warnings: warnings(schema))
    }

    /// The columns' names, and whether the file has them. A first record in which no field is a number, while the second has one or
    /// differs, is a header.
    private static func header(_ reader: CSVReader) throws -> ([String], Bool) {
        var records: [[String]] = []
        try reader.forEach { record in
            records.append((0..<record.count).map(record.text))
            return records.count < 2
        }
        guard let first = records.first else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        let numbers = first.contains { Cell.number(Array($0.utf8)[...]) != nil }
        guard !numbers else { return ((1...first.count).map { "column_\($0)" }, false) }
        var seen: [String: Int] = [:]
        for (index, name) in first.enumerated() {
            if name.isEmpty { throw CohortError(.invalid, "line 1, column \(index + 1): the header names no column there") }
            if let other = seen[name] {
                throw CohortError(.invalid, "line 1: columns \(other + 1) and \(index + 1) are both named '\(name)'")
            }
            seen[name] = index
        }
        return (first, true)
    }

    private static func scan(
        _ reader: CSVReader, names: [String], hasHeader: Bool, _ shouldContinue: () -> Bool
    ) throws -> [ColumnScan] {
        var scans = names.map { ColumnScan(name: $0) }
        var skip = hasHeader
        var row = 0
        try reader.forEach { record in
            if skip {
                skip = false
                return true
            }
            try check(record, columns: names.count, hasHeader: hasHeader)
            for index in 0..<record.count { scans[index].add(record.trimmed(index)) }
            row += 1
            if row & 0xfff == 0, !shouldContinue() { throw CancellationError() }
            return true
        }
        return scans
    }

    static func check(_ record: borrowing CSVRecord, columns: Int, hasHeader: Bool) throws {
        guard record.count != columns else { return }
        let line = record.line
        let count = record.count
        throw CohortError(.invalid, "line \(line): \(count) fields where \(hasHeader ? "the header" : "the first line") has \(columns)")
    }

    private static func guess(_ target: ColumnScan) throws -> LearningTask {
        guard target.isNumeric else { return .classification }
        guard target.whole, let distinct = target.distinct else { return .regression }
        // Ten rows a class at least, on average: few whole numbers on few rows say nothing.
        return distinct.count <= mostNumberedClasses && target.values >= 3 * distinct.count ? .classification : .regression
    }

    private static func classes(_ target: ColumnScan) throws -> [String] {
        guard let distinct = target.distinct, distinct.count <= mostClasses else {
            throw CohortError(.invalid, "the target column '\(target.name)' has more than \(mostClasses) different values: too many classes; is it a number (task regression), or an id?")
        }
        guard distinct.count >= 2 else {
            throw CohortError(.invalid, "the target column '\(target.name)' has the one value '\(distinct.first ?? "")': there is nothing to tell apart")
        }
        return distinct.sorted { a, b in
            if let x = Cell.number(Array(a.utf8)[...]), let y = Cell.number(Array(b.utf8)[...]), x != y { return x < y }
            return a < b
        }
    }

    private static func column(_ scan: ColumnScan, rows: Int) -> TableSchema.Column {
        var column = TableSchema.Column(name: scan.name, kind: .ignored, missing: scan.missing)
        let distinct = scan.distinct?.count
        if scan.values == 0 {
            column.note = "has no values"
        } else if distinct == 1 {
            column.note = "has the one value '\(scan.distinct?.first ?? "")'"
        } else if scan.isNumeric {
            if scan.counting, scan.missing == 0, rows >= 10 {
                column.note = "counts the rows: an id"
            } else {
                column.kind = .numeric
            }
        } else if let distinct, distinct <= mostCategories, distinct * 2 <= scan.values || scan.values < 20 {
            column.kind = .categorical
            if scan.numbers > 0 { column.note = "numbers and text are mixed: taken as categories" }
        } else {
            column.note = "text with \(distinct.map { "\($0)" } ?? "more than \(mostTracked)") different values: no category"
        }
        return column
    }

    /// Second pass: statistics and categories from the training rows alone.
    private static func fit(
        _ schema: inout TableSchema, _ reader: CSVReader, targetIndex: Int, _ shouldContinue: () -> Bool
    ) throws {
        var rows = UsableRows(schema: schema)
        var moments = schema.columns.map { _ in Moments() }
        var categories = schema.columns.map { _ in Set<String>() }
        let kinds = schema.columns.map(\.kind)
        var counts = (training: 0, validation: 0, dropped: 0)
        var skip = schema.hasHeader
        var row = 0
        let columns = schema.columns.count
        let hasHeader = schema.hasHeader
        try reader.forEach { record in
            if skip {
                skip = false
                return true
            }
            try check(record, columns: columns, hasHeader: hasHeader)
            row += 1
            if row & 0xfff == 0, !shouldContinue() { throw CancellationError() }
            switch try rows.next(record.trimmed(targetIndex), line: record.line) {
            case nil: counts.dropped += 1
            case .validation: counts.validation += 1
            case .training(let value):
                counts.training += 1
                for index in 0..<columns {
                    switch kinds[index] {
                    case .numeric: if let number = Cell.number(record.trimmed(index)) { moments[index].add(number) }
                    case .categorical:
                        let bytes = record.trimmed(index)
                        if !Cell.isMissing(bytes) { categories[index].insert(String(decoding: bytes, as: UTF8.self)) }
                    case .target: moments[index].add(Double(value))
                    case .ignored: break
                    }
                }
            }
            return true
        }
        (schema.trainingRows, schema.validationRows, schema.droppedRows) = counts
        for index in schema.columns.indices {
            switch kinds[index] {
            case .numeric:
                schema.columns[index].mean = moments[index].mean
                schema.columns[index].std = moments[index].deviation
            case .categorical: schema.columns[index].categories = categories[index].sorted()
            case .target where schema.task == .regression:
                schema.columns[index].mean = moments[index].mean
                schema.columns[index].std = moments[index].deviation
            default: break
            }
        }
    }

    private static func warnings(_ schema: TableSchema) -> [String] {
        var warnings = schema.columns.compactMap { column in column.note.map { "column '\(column.name)' \($0)" } }
        if schema.droppedRows > 0 { warnings.append("\(schema.droppedRows) rows have no '\(schema.target)' and are left out") }
        return warnings
    }

    private static func list(_ names: [String]) -> String {
        names.prefix(30).joined(separator: ", ") + (names.count > 30 ? ", … (\(names.count) in all)" : "")
    }
}

/// Mean and standard deviation in one pass (Welford 1962).
struct Moments {
    private var count = 0.0
    private(set) var mean = 0.0
    private var squares = 0.0

    mutating func add(_ value: Double) {
        count += 1
        let delta = value - mean
        mean += delta / count
        squares += delta * (value - mean)
    }

    /// Of the population; 1 when the values do not vary.
    var deviation: Double {
        let deviation = count > 0 ? (squares / count).squareRoot() : 0
        return deviation > 0 && deviation.isFinite ? deviation : 1
    }
}

/// Goes along with the rows of a file: which are usable, which held out, and what their target is.
struct UsableRows {
    enum Row {
        /// The class index, or the number as it stands.
        case training(Float64)
        case validation(Float64)
    }

    private var split: Split
    private let classes: [String: Int]
    private let schema: TableSchema

    init(schema: TableSchema) {
        self.schema = schema
        split = Split(share: schema.validation, seed: schema.splitSeed)
        classes = Dictionary(schema.classes.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// - Returns: nil for a row without a target.
    mutating func next(_ target: ArraySlice<UInt8>, line: Int) throws -> Row? {
        guard !Cell.isMissing(target) else { return nil }
        let value: Double
        let label: String
        switch schema.task {
        case .classification:
            label = String(decoding: target, as: UTF8.self)
            guard let index = classes[label] else {
                throw CohortError(.invalid, "line \(line): '\(label)' is none of the classes of '\(schema.target)'")
            }
            value = Double(index)
        case .regression:
            label = ""
            guard let number = Cell.number(target) else {
                throw CohortError(.invalid, "line \(line): '\(String(decoding: target, as: UTF8.self))' in '\(schema.target)' is not a number")
            }
            value = number
        }
        return split.isValidation(label) ? .validation(value) : .training(value)
    }
}
