public import CohortCore

/// Tells how the columns of a CSV become features, in two passes over the file, with memory that does not grow with its rows.
///
/// The first pass tells numbers from text and what the target is; the second fits means, deviations and categories on the training
/// rows alone.
public enum SchemaInference {
    /// The maximum number of categories of a text column: its most frequent values.
    public static let maxCategories = 100
    public static let maxClasses = 1_000
    /// Whole numbers of at most so many different values can be classes.
    static let maxNumberedClasses = 20

    /// The inferred schema, with warnings for the user.
    public struct Finding: Sendable {
        public var schema: TableSchema
        public var warnings: [String]
        /// The different values of the columns, for packing the rows.
        public var values: ColumnValues
    }

    /// Blocks its thread.
    /// - Parameters:
    ///   - target: a column's name; nil: the last column that has values.
    ///   - task: nil: told from the target's values.
    ///   - validation: the share of rows to hold out, 0 ..< 1.
    ///   - seed: decides which.
    ///   - options: what a person says of the columns.
    ///   - model: the schema of a model that training goes on from: its columns are read as it reads them, wherever the file has them. `target`
    ///     and `task` are its own then.
    ///   - threads: nil: as many as there are cores. What is found does not depend on it.
    /// - Throws: ``CohortError`` `invalid`, with line and column where there is one; `CancellationError` when told to stop.
    public static func infer(
        csvAt path: String, target: String?, task: LearningTask?, validation: Double, seed: UInt64,
        options: DataOptions = DataOptions(), model: TableSchema? = nil, threads: Int? = nil,
        shouldContinue: @escaping () -> Bool = { true }
    ) throws -> Finding {
        guard (0..<1).contains(validation) else {
            throw CohortError(.invalid, "validation is \(validation): the share of rows held out must be at least 0 and less than 1")
        }
        var (target, given) = model.map { ($0.target, $0.task) } ?? (target, task)
        try options.check(target: target)
        var options = options
        let parallel = InParallel(threads: threads)
        let reader = CSVReader(path: path, format: try CSVFormat(of: path))
        if reader.format.encoding == .safetensors {
            options.takeTensors()
            target = target ?? TensorFile.targetColumn
        }
        let named =
            [target, options.group].compactMap { $0 } + options.use + options.ignore + options.category + options.number
            + (model?.featureNames ?? [])
        let header = try Header(reader, known: named, isThere: options.header)
        for (name, purpose) in [(target, "to predict"), (options.group, "to group the rows by")] {
            if let name { try require(name, purpose: purpose, in: header) }
        }
        for name in options.use { try require(name, purpose: "to use", in: header) }
        for name in options.ignore { try require(name, purpose: "to ignore", in: header) }
        for name in options.category { try require(name, purpose: "to take as categories", in: header) }
        for name in options.number { try require(name, purpose: "to take as a quantity", in: header) }
        guard header.names.count >= 2 else {
            throw CohortError(
                .invalid, "the file has one column, '\(header.names[0])': a target and a column to predict it from are needed")
        }
        let look = try FirstLook(
            reader, header: header, target: target, options: options, seed: seed, parallel: parallel, shouldContinue: shouldContinue)
        let found = look.scans[look.target]
        guard found.values > 0 else { throw CohortError(.invalid, "the target column '\(found.name)' has no values") }
        let byDefault = target == nil ? " (the last column was taken; --target chooses another)" : ""
        let task = given ?? TargetRules.guess(found, look.labels)
        var schema = TableSchema(
            hasHeader: header.isThere, delimiter: String(UnicodeScalar(reader.format.delimiter)), columns: [], target: found.name,
            task: task, classes: [], validation: validation, splitSeed: seed, trainingRows: 0, validationRows: 0, droppedRows: 0)
        schema.encoding = reader.format.encoding
        do {
            try TargetRules.split(&schema, target: found, look: look, share: validation)
        } catch let error as CohortError {
            throw CohortError(error.code, error.message + byDefault)
        }
        if options.group != nil {
            schema.group = options.group
            schema.groupThreshold = look.groups?.threshold(share: validation)
        }
        if let model { try schema.takeClasses(of: model) }
        let carried = try model.map { try ModelColumns($0).columns(look, header: header, options: options) }
        schema.columns = carried ?? ColumnRules.columns(look, header: header, options: options)
        var values = ColumnValues(look)
        var shown = try fit(
            &schema, values: &values, reader: reader, scans: look.scans, options: options, parallel: parallel,
            shouldContinue: shouldContinue)
        // Newly fitted values do not match the model's weights.
        if let carried { (schema.columns, shown) = (carried, []) }
        try check(schema)
        return Finding(
            schema: schema, warnings: Warnings.of(schema, look: look, header: header, format: reader.format, options: options) + shown,
            values: values)
    }

    /// The names of a file's columns. Blocks its thread.
    /// - Throws: ``CohortError`` `invalid` for a file without a header that can be read.
    public static func columnNames(csvAt path: String) throws -> [String] {
        try Header(CSVReader(path: path, format: try CSVFormat(of: path)), known: [], isThere: nil).names
    }

    // MARK: What must hold

    private static func require(_ name: String, purpose: String, in header: Header) throws {
        guard !header.names.contains(name) else { return }
        let hint = Spelling.nearest(to: name, in: header.names).map { ": did you mean '\($0)'?" } ?? ""
        throw CohortError(.invalid, "there is no column '\(name)' \(purpose)\(hint); the columns are \(list(header.names))")
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

    static func list(_ names: [String], by separator: String = ", ") -> String {
        names.prefix(30).joined(separator: separator) + (names.count > 30 ? "\(separator)… (\(names.count) in all)" : "")
    }
}
