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

    init(schema: TableSchema) {
        self.schema = schema
        split = Split(share: schema.validation, seed: schema.splitSeed)
        classes = Dictionary(schema.classes.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        hasNumberedClasses = schema.classes.allSatisfy { Cell.number(Array($0.utf8)[...]) != nil }
    }

    /// - Returns: nil for a row without a target.
    /// - Throws: ``CohortError`` `invalid` for a target that the schema does not know.
    mutating func next(_ target: ArraySlice<UInt8>, line: Int) throws -> Row? {
        guard !Cell.isMissing(target) else { return nil }
        let number = schema.task == .regression || hasNumberedClasses ? Cell.number(target, comma: schema.takesComma) : nil
        switch schema.task {
        case .classification:
            let label = number.map(Cell.label) ?? String(decoding: target, as: UTF8.self)
            guard let index = classes[label] else {
                throw CohortError(.invalid, "line \(line): '\(label.prefix(40))' is none of the classes of '\(schema.target)'")
            }
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
