import CohortCore

/// Decides the task, and the number of held-out rows of each class.
enum TargetRules {
    /// Text is classes. Whole numbers are, too, when they are few, and each is there often: ten times on average, or three when they
    /// are numbered without a gap from 0 or 1. Everything else is a quantity.
    static func guess(_ target: ColumnScan, _ labels: LabelScan?) -> LearningTask {
        guard target.isNumeric else { return .classification }
        guard target.isWhole, let labels = labels?.labels(noneIsWord: false) else { return .regression }
        let numbers = Set(labels.keys.compactMap { Cell.number($0, comma: target.comma) }).sorted()
        guard let first = numbers.first, let last = numbers.last, numbers.count <= SchemaInference.maxNumberedClasses else {
            return .regression
        }
        let isNumbered = (first == 0 || first == 1) && last - first == Double(numbers.count - 1)
        let isOften = target.values >= (isNumbered ? 3 : 10) * numbers.count
        return numbers.count <= 2 || isOften ? .classification : .regression
    }

    /// Sets the schema's classes and numbers of rows.
    /// - Throws: ``CohortError`` `invalid` for a target without anything to learn.
    static func split(_ schema: inout TableSchema, target: ColumnScan, look: FirstLook, share: Double) throws {
        if schema.task == .regression {
            if let example = target.example {
                let how = NumberHint.of(example.text, line: example.line).map { ": \($0)" } ?? ""
                throw CohortError(
                    .invalid,
                    "line \(example.line): '\(example.text)' in the target column '\(target.name)' is not a number, as a regression needs\(how)"
                )
            }
            schema.validationRows = Split.quotas([target.values], share: share)[0]
            schema.trainingRows = target.values - schema.validationRows
            return
        }
        var rows = try labels(target, look)
        // Labels that are written as codes stay what was written: 001 is another than 01.
        let isNumbered = target.isNumeric && !target.isCode
        if isNumbered {
            rows = Dictionary(
                rows.compactMap { text, count in Cell.number(text, comma: target.comma).map { (Cell.label($0), count) } },
                uniquingKeysWith: +)
        }
        schema.classes =
            isNumbered
            ? rows.keys.sorted { (Cell.number($0) ?? 0) < (Cell.number($1) ?? 0) } : rows.keys.sorted()
        try checkClasses(schema.classes, target)
        let counts = schema.classes.map { rows[$0] ?? 0 }
        let heldOut = Split.quotas(counts, share: share)
        schema.validationCounts = heldOut
        schema.classCounts = zip(counts, heldOut).map { $0 - $1 }
        schema.validationRows = heldOut.reduce(0, +)
        schema.trainingRows = counts.reduce(0, +) - schema.validationRows
    }

    private static func labels(_ target: ColumnScan, _ look: FirstLook) throws -> [String: Int] {
        if target.dateFormat != nil {
            throw CohortError(
                .invalid,
                "the target column '\(target.name)' holds dates, which are no classes and no quantity: predict a number made of them, such as days from a first one"
            )
        }
        guard let labels = look.classes else {
            let name = target.name
            if let line = look.labels?.longLine {
                throw CohortError(.invalid, "line \(line): the target column '\(name)' holds long text there, which is no class")
            }
            if let spoilt = spoilt(target) { throw CohortError(.invalid, spoilt) }
            throw CohortError(
                .invalid,
                "the target column '\(name)' has more than \(SchemaInference.maxClasses) different values: too many classes. Is it a quantity (task regression), or an id?"
            )
        }
        return labels
    }

    /// - Throws: ``CohortError`` `invalid` for one class, and for a class for nearly every row.
    private static func checkClasses(_ classes: [String], _ target: ColumnScan) throws {
        guard classes.count >= 2 else {
            throw CohortError(
                .invalid, "the target column '\(target.name)' has the one value '\(classes.first ?? "")': there is nothing to tell apart")
        }
        let isMany = classes.count > 2 && classes.count * 2 > target.values || classes.count >= 8 && classes.count * 2 >= target.values
        if isMany, target.dateFormat != nil {
            throw CohortError(.invalid, "the target column '\(target.name)' holds dates, which are no classes and no quantity")
        }
        if isMany || classes.count > 20, let spoilt = spoilt(target) { throw CohortError(.invalid, spoilt) }
        guard !isMany else {
            let what = target.numbers > 0 && target.texts == 0 ? "a quantity (task regression), or an id" : "an id"
            throw CohortError(
                .invalid,
                "the target column '\(target.name)' has \(classes.count) different values in \(target.values) rows: is it \(what)?")
        }
    }

    /// Describes the few cells that keep a target from being numeric; nil for other targets.
    private static func spoilt(_ target: ColumnScan) -> String? {
        guard let example = target.example else { return nil }
        let hint = NumberHint.of(example.text, line: example.line)
        guard target.numbers >= 9 * target.texts || target.numbers > 0 && hint != nil else {
            return hint.map { "the target column '\(target.name)' is text: \($0)" }
        }
        return
            "the target column '\(target.name)' is numbers but for \(target.texts) of \(target.values) cells, such as '\(example.text)' on line \(example.line): write all of them as numbers\(hint.map { " (\($0))" } ?? "")"
    }
}
