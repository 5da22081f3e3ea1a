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
    private let hasNumberedClasses: Bool
    /// Short texts of the target that came before, by ``Swift/UnsafeBufferPointer/shortKey``.
    private var known: [UInt64: (label: String, index: Int)] = [:]

    init(schema: TableSchema) {
        self.schema = schema
        split = Split(share: schema.validation, seed: schema.splitSeed)
        classes = Dictionary(schema.classes.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        hasNumberedClasses = schema.classes.allSatisfy { Cell.number($0) != nil }
    }

    /// - Returns: nil for a row without a target.
    /// - Throws: ``CohortError`` `invalid` for a target that the schema does not know.
    mutating func next(_ target: CellBytes, line: Int) throws -> Row? {
        let key = schema.task == .classification ? target.shortKey : nil
        if let key, let (label, index) = known[key] { return Row(isValidation: split.isValidation(label), target: Double(index)) }
        guard !Cell.isMissing(target) else { return nil }
        let number = schema.task == .regression || hasNumberedClasses ? Cell.number(target, comma: schema.takesComma) : nil
        switch schema.task {
        case .classification:
            let label = number.map(Cell.label) ?? String(decoding: target, as: UTF8.self)
            guard let index = classes[label] else {
                throw CohortError(.invalid, "line \(line): '\(label.prefix(40))' is none of the classes of '\(schema.target)'")
            }
            if let key, known.count < 1 << 16 { known[key] = (label, index) }
            return Row(isValidation: split.isValidation(label), target: Double(index))
        case .regression:
            guard let number else {
                let text = String(decoding: target.prefix(40), as: UTF8.self)
                throw CohortError(.invalid, "line \(line): '\(text)' in the target column '\(schema.target)' is not a number")
            }
            return Row(isValidation: split.isValidation(""), target: number)
        }
    }
}
