import CohortCore

/// Goes along with the rows of a file: which are usable (have a target), which are held out, and what their target is.
struct UsableRows {
    struct Row {
        var isValidation: Bool
        /// The class index, or the number as it stands.
        var target: Double
    }

    private var split: Split
    private let classes: [String: Int]
    private let schema: TableSchema
    private let takesComma: Bool
    private let hasNumberedClasses: Bool
    private let target: Int
    private let group: Int?
    private let threshold: UInt64
    /// Short texts of the target that came before, by ``Swift/UnsafeBufferPointer/shortKey``.
    private var known: [UInt64: Int] = [:]
    private var groups: [String: Bool] = [:]

    /// - Throws: ``CohortError`` `invalid` for a schema without a target, or without the group's column.
    init(schema: TableSchema) throws {
        guard let target = schema.columns.firstIndex(where: { $0.kind == .target }) else {
            throw CohortError(.invalid, "the schema has no target column")
        }
        self.schema = schema
        self.target = target
        group = try schema.group.map { name in
            guard let index = schema.columns.firstIndex(where: { $0.name == name }) else {
                throw CohortError(.invalid, "there is no column '\(name)' to group the rows by")
            }
            return index
        }
        threshold = schema.groupThreshold ?? 0
        takesComma = schema.takesComma
        let isRegression = schema.task == .regression
        let heldOut = isRegression ? [schema.validationRows] : schema.validationCounts ?? []
        let training = isRegression ? [schema.trainingRows] : schema.classCounts ?? []
        split = Split(
            labels: isRegression ? [""] : schema.classes, rows: zip(training, heldOut).map { $0 + $1 }, heldOut: heldOut,
            seed: schema.splitSeed)
        classes = Dictionary(schema.classes.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        // Of labels that are codes, such as 001, the text counts.
        hasNumberedClasses = schema.classes.allSatisfy { Cell.number($0) != nil && !Cell.isCode($0) }
    }

    /// - Returns: nil for a row without a target.
    /// - Throws: ``CohortError`` `invalid` for a target that the schema does not know, or a record of another width.
    mutating func next(_ record: CSVRecord) throws -> Row? {
        try record.check(columns: schema.columns.count, hasHeader: schema.hasHeader)
        let text = record.trimmed(target)
        switch schema.task {
        case .classification:
            guard let index = try classIndex(text, line: record.line) else { return nil }
            return Row(isValidation: isValidation(index, record), target: Double(index))
        case .regression:
            guard !Cell.isMissing(text) else { return nil }
            guard let number = Cell.number(text, comma: takesComma) else {
                throw CohortError(
                    .invalid,
                    "line \(record.line): '\(String(decoding: text.prefix(40), as: UTF8.self))' in the target column '\(schema.target)' is not a number"
                )
            }
            return Row(isValidation: isValidation(0, record), target: number)
        }
    }

    private mutating func classIndex(_ text: CellBytes, line: Int) throws -> Int? {
        let key = text.shortKey
        if let key, let index = known[key] { return index }
        let number = hasNumberedClasses ? Cell.number(text, comma: takesComma) : nil
        let label = number.map(Cell.label) ?? String(decoding: text, as: UTF8.self)
        guard let index = classes[label] else {
            guard !Cell.isMissing(text) else { return nil }
            throw CohortError(.invalid, "line \(line): '\(label.prefix(40))' is not a class of '\(schema.target)'")
        }
        if let key, known.count < 1 << 16 { known[key] = index }
        return index
    }

    private mutating func isValidation(_ index: Int, _ record: CSVRecord) -> Bool {
        guard let group else { return split.isValidation(index) }
        let bytes = record.trimmed(group)
        let text = String(decoding: bytes, as: UTF8.self)
        if let isHeldOut = groups[text] { return isHeldOut }
        let isHeldOut = Split.number(ofGroup: text, seed: schema.splitSeed) < threshold
        if bytes.count <= Split.longestRemembered, groups.count < Split.mostRemembered { groups[text] = isHeldOut }
        return isHeldOut
    }
}
