public import CohortCore

/// Tells how the columns of a CSV become features, in two passes over the file, with memory that does not grow with its rows.
///
/// The first pass tells numbers from text and what the target is; the second fits means, deviations and categories on the training
/// rows alone.
public enum SchemaInference {
    /// A text column of more different values is no feature.
    public static let mostCategories = 100
    public static let mostClasses = 1_000
    /// Whole numbers of at most so many different values can be classes.
    static let mostNumberedClasses = 20

    /// What was found, and what a person should know of it.
    public struct Finding: Sendable {
        public var schema: TableSchema
        public var warnings: [String]
    }

    /// Blocks its thread.
    /// - Parameters:
    ///   - target: a column's name; nil: the last column that has values.
    ///   - task: nil: told from the target's values.
    ///   - validation: the share of rows to hold out, 0 ..< 1.
    ///   - seed: decides which.
    ///   - threads: nil: as many as there are cores. What is found does not depend on it.
    /// - Throws: ``CohortError`` `invalid`, with line and column where there is one; `CancellationError` when told to stop.
    public static func infer(
        csvAt path: String, target: String?, task: LearningTask?, validation: Double, seed: UInt64,
        threads: Int? = nil, shouldContinue: @escaping () -> Bool = { true }
    ) throws -> Finding {
        guard (0..<1).contains(validation) else {
            throw CohortError(.invalid, "validation is \(validation): the share of rows held out must be at least 0 and less than 1")
        }
        let parallel = InParallel(threads: threads)
        let reader = CSVReader(path: path, delimiter: try CSVReader.sniffDelimiter(path: path))
        let header = try Header(reader, target: target)
        if let target, !header.names.contains(target) {
            throw CohortError(.invalid, "there is no column '\(target)' to predict; the columns are \(list(header.names))")
        }
        guard header.names.count >= 2 else {
            throw CohortError(
                .invalid, "the file has one column, '\(header.names[0])': a target and a column to predict it from are needed")
        }
        let (scans, labels) = try scan(reader, header, target: target, parallel, shouldContinue)
        let targetIndex = target.flatMap(header.names.firstIndex(of:)) ?? scans.lastIndex { $0.values > 0 } ?? header.names.count - 1
        guard scans[0].missing + scans[0].values > 0 else { throw CohortError(.invalid, "the file has a header and no rows") }
        let found = scans[targetIndex]
        guard found.values > 0 else { throw CohortError(.invalid, "the target column '\(found.name)' has no values") }
        let task = task ?? guess(found, labels[targetIndex])
        if task == .regression, let example = found.example {
            throw CohortError(
                .invalid,
                "line \(example.line): '\(example.text)' in the target column '\(found.name)' is not a number, as a regression needs\(found.hint == nil ? "" : ": write numbers as 1234.5, without separators")"
            )
        }
        var schema = TableSchema(
            hasHeader: header.isThere, delimiter: String(UnicodeScalar(reader.delimiter)), columns: [], target: found.name, task: task,
            classes: task == .classification ? try classes(found, labels[targetIndex]) : [], validation: validation, splitSeed: seed,
            trainingRows: 0, validationRows: 0, droppedRows: 0)
        schema.columns = columns(scans, targetIndex: targetIndex)
        try fit(&schema, reader, scans, parallel, shouldContinue)
        try check(schema)
        return Finding(schema: schema, warnings: warnings(schema))
    }

    private static func check(_ schema: TableSchema) throws {
        let rows = schema.trainingRows + schema.validationRows + schema.droppedRows
        guard schema.trainingRows >= 2 else {
            throw CohortError(
                .invalid,
                "\(schema.trainingRows) of \(rows) rows can be trained on: at least 2 with a value of '\(schema.target)' are needed")
        }
        guard rows < Int(UInt32.max) else { throw CohortError(.tooLarge, "\(rows) rows are too many: 4 billion is the most") }
        guard schema.featureCount > 0 else {
            let reasons = schema.columns.compactMap { column in column.note.map { "'\(column.name)' \($0)" } }
            throw CohortError(.invalid, "no column is left to predict '\(schema.target)' from: \(list(reasons, by: "; "))")
        }
    }

    // MARK: First pass

    /// Labels are collected of the target only; which is the last column unless said.
    private static func scan(
        _ reader: CSVReader, _ header: Header, target: String?, _ parallel: InParallel, _ shouldContinue: () -> Bool
    ) throws -> (scans: [ColumnScan], labels: [Int: LabelScan]) {
        let columns = header.names.count
        var scans = ColumnScans(names: header.names, comma: reader.takesComma)
        // The last column may turn out to be empty (a delimiter at the end of each line): then the one before it is the target.
        let candidates = target.flatMap(header.names.firstIndex(of:)).map { [$0] } ?? [columns - 2, columns - 1]
        var labels = Dictionary(uniqueKeysWithValues: candidates.map { ($0, LabelScan()) })
        try forEachBatch(reader, hasHeader: header.isThere, shouldContinue) { records in
            for record in records {
                try record.check(columns: columns, hasHeader: header.isThere)
                for index in candidates { labels[index]?.add(record.trimmed(index), line: record.line) }
            }
            try scans.add(records, parallel)
        }
        return (scans.finish(), labels)
    }

    /// Batches of rows; `shouldContinue` is asked about every 1,024.
    static func forEachBatch(
        _ reader: CSVReader, hasHeader: Bool, _ shouldContinue: () -> Bool, _ body: (Slice<CSVBatches.Batch>) throws -> Void
    ) throws {
        var isHeader = hasHeader
        var rows = 0
        try reader.forEachBatch { records in
            let records = records.dropFirst(isHeader ? 1 : 0)
            isHeader = false
            try body(records)
            if (rows + records.count) >> 10 != rows >> 10, !shouldContinue() { throw CancellationError() }
            rows += records.count
            return true
        }
    }

    /// Text is classes. Whole numbers are, too, when they are few, and each is there often: ten times on average, or three when they
    /// are numbered without a gap from 0 or 1. Everything else is a quantity.
    private static func guess(_ target: ColumnScan, _ labels: LabelScan?) -> LearningTask {
        guard target.isNumeric else { return .classification }
        guard target.isWhole, let labels = labels?.labels else { return .regression }
        let numbers = Set(labels.compactMap { Cell.number($0, comma: target.comma) }).sorted()
        guard let first = numbers.first, let last = numbers.last, numbers.count <= mostNumberedClasses else { return .regression }
        let isNumbered = (first == 0 || first == 1) && last - first == Double(numbers.count - 1)
        let isOften = target.values >= (isNumbered ? 3 : 10) * numbers.count
        return numbers.count <= 2 || isOften ? .classification : .regression
    }

    private static func classes(_ target: ColumnScan, _ labels: LabelScan?) throws -> [String] {
        guard let labels = labels?.labels else {
            throw CohortError(
                .invalid,
                labels?.longLine.map { "line \($0): the target column '\(target.name)' holds long text there, which is no class" }
                    ?? "the target column '\(target.name)' has more than \(mostClasses) different values: too many classes. Is it a quantity (task regression), or an id?"
            )
        }
        let numbers = target.isNumeric ? Set(labels.compactMap { Cell.number($0, comma: target.comma) }) : []
        let classes = target.isNumeric ? numbers.sorted().map(Cell.label) : labels.sorted()
        guard classes.count >= 2 else {
            throw CohortError(
                .invalid, "the target column '\(target.name)' has the one value '\(classes.first ?? "")': there is nothing to tell apart")
        }
        return classes
    }

    /// What each column is, as far as the first pass can tell.
    private static func columns(_ scans: [ColumnScan], targetIndex: Int) -> [TableSchema.Column] {
        let columns = scans.enumerated().map { index, scan -> TableSchema.Column in
            var column = TableSchema.Column(name: scan.name, kind: .ignored, missing: scan.missing)
            if index == targetIndex {
                column.kind = .target
            } else if scan.values == 0 {
                column.note = "has no values"
            } else if !scan.varies, scan.isNumeric || scan.missing == 0 {
                column.note = "has the one value '\(scan.sample)'"
            } else if scan.isIndex {
                column.note = "counts the rows: an id"
            } else {
                column.kind = scan.isNumeric ? .numeric : scan.dateFormat != nil ? .date : .categorical
                column.dateFormat = scan.dateFormat
            }
            return column
        }
        guard columns.allSatisfy({ $0.kind == .ignored || $0.kind == .target }) else { return columns }
        // Nothing else to learn from: then what counts is a quantity.
        return zip(columns, scans).map { column, scan in
            guard column.kind == .ignored, scan.isIndex else { return column }
            return TableSchema.Column(name: column.name, kind: .numeric, missing: column.missing)
        }
    }

    // MARK: What to say

    private static func warnings(_ schema: TableSchema) -> [String] {
        var warnings = schema.columns.compactMap { column in column.note.map { "column '\(column.name)' \($0)" } }
        if warnings.count > 50 { warnings = warnings.prefix(50) + ["… and \(warnings.count - 50) columns more"] }
        warnings += imbalance(schema) + lookalikes(schema)
        if schema.droppedRows > 0 { warnings.append("\(schema.droppedRows) rows have no '\(schema.target)' and are left out") }
        if schema.validation > 0, schema.validationRows == 0 {
            warnings.append("there are too few rows to hold any out for validation")
        }
        return warnings
    }

    /// Classes that are rare enough to be overlooked.
    private static func imbalance(_ schema: TableSchema) -> [String] {
        let counts = zip(schema.classes, schema.classCounts ?? []).map { (label: $0, rows: $1) }
        guard let most = counts.max(by: { $0.rows < $1.rows }), let least = counts.min(by: { $0.rows < $1.rows }) else { return [] }
        if least.rows == 0 { return ["class '\(least.label)' of '\(schema.target)' has no row to train on: all were held out"] }
        guard least.rows * 10 < most.rows else { return [] }
        return [
            "the classes of '\(schema.target)' are of very different size: '\(most.label)' has \(most.rows) training rows, '\(least.label)' \(least.rows); class_weight balanced lets rare ones count more"
        ]
    }

    /// Classes and categories that differ in nothing but the case of letters.
    private static func lookalikes(_ schema: TableSchema) -> [String] {
        ([(schema.target, schema.classes)] + schema.columns.map { ($0.name, $0.categories ?? []) }).compactMap { name, texts in
            let alike = Dictionary(grouping: texts) { $0.lowercased() }.values.filter { $0.count > 1 }.min { $0[0] < $1[0] }
            return alike.map { "'\($0[0])' and '\($0[1])' in '\(name)' differ in the case of letters only, and are taken for two" }
        }
    }

    private static func list(_ names: [String], by separator: String = ", ") -> String {
        names.prefix(30).joined(separator: separator) + (names.count > 30 ? "\(separator)… (\(names.count) in all)" : "")
    }
}
