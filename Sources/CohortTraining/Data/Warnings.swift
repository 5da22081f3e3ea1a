import CohortCore

/// Warnings about the data for the user.
enum Warnings {
    static func of(
        _ schema: TableSchema, look: FirstLook, header: Header, format: CSVFormat, options: DataOptions
    ) -> [String] {
        var warnings = reading(schema, header: header, format: format, options: options)
        let notes = schema.columns.compactMap { column in column.note.map { "column '\(column.name)' \($0)" } }
        warnings += notes.count > 50 ? notes.prefix(50) + ["… and \(notes.count - 50) columns more"] : notes
        warnings += groups(schema, look: look, options: options) + imbalance(schema) + similarNames(schema)
        if schema.droppedRows > 0 { warnings.append("\(schema.droppedRows) rows have no '\(schema.target)' and are left out") }
        warnings += marks(schema, look) + severalInOne(schema)
        if let (text, line) = look.total {
            warnings.append(
                "line \(line), the last, begins with '\(text.printable(max: 40))': is it a sum of the rows above? Remove it then")
        }
        if schema.validation > 0, schema.validationRows == 0 {
            warnings.append("there are too few rows to hold any out for validation")
        }
        return warnings
    }

    private static func reading(
        _ schema: TableSchema, header: Header, format: CSVFormat, options: DataOptions
    ) -> [String] {
        var warnings: [String] = []
        if let (text, line) = format.notUTF8 {
            warnings.append("the file is not UTF-8 and was read as Windows-1252: line \(line) has '\(text)'; is that right?")
        } else if let encoding = format.encoding, encoding != .safetensors {
            warnings.append("the file is in \(encoding.rawValue.uppercased())")
        }
        if format.zerosAtEnd > 0 {
            warnings.append(
                "the file ends with \(format.zerosAtEnd) zero bytes, as after a loss of power: they are left out, and the last row may be cut short"
            )
        }
        if format.isSpaced { warnings.append("fields are separated by spaces") }
        if !header.isThere, options.header == nil {
            warnings.append(
                "no header was found: the columns are called column_1 to column_\(schema.columns.count) (--header yes: the first line is one)"
            )
        }
        return warnings
    }

    /// Words that may be values, as NA is Namibia's code, among words that are.
    private static func marks(_ schema: TableSchema, _ look: FirstLook) -> [String] {
        schema.columns.indices.compactMap { index in
            let (column, scan) = (schema.columns[index], look.scans[index])
            let isWord = column.kind == .categorical || column.kind == .target && schema.task == .classification
            guard isWord, scan.texts > 0, scan.marks > 0, let mark = scan.mark else { return nil }
            let cells = scan.marks == 1 ? "1 cell of '\(column.name)' says" : "\(scan.marks) cells of '\(column.name)' say"
            return "\(cells) '\(mark)', which is taken for no value; if it is one, write it in another way, such as '\(mark)_'"
        }
    }

    /// Cells such as `toxic|spam`, whose words come alone or in other company elsewhere.
    private static func severalInOne(_ schema: TableSchema) -> [String] {
        let columns =
            [(schema.target, schema.classes)] + schema.columns.compactMap { column in column.categories.map { (column.name, $0) } }
        return columns.compactMap { name, texts -> String? in
            guard texts.count >= 4 else { return nil }
            for separator in ["|", ";", ",", "/"] as [Character] {
                let parts = texts.map { $0.split(separator: separator).map { String($0.filter { $0 != " " }) } }
                let several = parts.filter { $0.count > 1 }
                let words = Set(parts.joined())
                // Each combination is made of words that make others too.
                guard several.count * 2 >= texts.count, several.count >= 3, words.count < texts.count, let example = several.first,
                    !words.contains(where: { $0.isEmpty || Double($0) != nil })
                else { continue }
                let text = example.joined(separator: String(separator)).printable(max: 40)
                return
                    "cells of '\(name)' hold several words ('\(text)'): each combination is a separate category, \(texts.count) of them; a column for each of the \(words.count) words, with 0 and 1, tells more"
            }
            return nil
        }
    }

    /// Ids of patients or households that come again.
    private static func groups(_ schema: TableSchema, look: FirstLook, options: DataOptions) -> [String] {
        if let group = options.group, let groups = look.groups {
            let usable = schema.trainingRows + schema.validationRows
            return groups.groups < 2
                ? ["'\(group)' has one value: no rows are held out"]
                : ["rows of one '\(group)' stay together: \(schema.validationRows) of \(usable) rows are held out"]
        }
        return schema.columns.indices.compactMap { index in
            guard let scan = look.identifiers[index], !scan.allDiffer, scan.different > 1,
                schema.columns[index].kind == .numeric || schema.columns[index].kind == .categorical
            else { return nil }
            let name = schema.columns[index].name
            guard Identifiers.areNamed(by: name), look.scans[index].texts > 0 || look.scans[index].isWhole, scan.different > 10 else {
                return nil
            }
            return
                "'\(name)' looks like an id that comes again (\(scan.different) different values): rows of one may be on both sides of the split, which flatters the result; --group \(name) keeps them together, --ignore \(name) leaves it out"
        }
    }

    /// Classes that are rare enough to be overlooked.
    private static func imbalance(_ schema: TableSchema) -> [String] {
        let counts = zip(schema.classes, schema.classCounts ?? []).map { (label: $0, rows: $1) }
        guard let most = counts.max(by: { $0.rows < $1.rows }), let least = counts.min(by: { $0.rows < $1.rows }) else { return [] }
        if least.rows == 0 { return ["class '\(least.label)' of '\(schema.target)' has no row to train on: all were held out"] }
        guard least.rows * 10 < most.rows else { return [] }
        return [
            "the classes of '\(schema.target)' are of very different size: '\(most.label)' has \(most.rows) training rows, '\(least.label)' \(least.rows); --class-weight balanced lets rare ones count more"
        ]
    }

    /// Classes and categories that differ in nothing but the case of letters.
    private static func similarNames(_ schema: TableSchema) -> [String] {
        ([(schema.target, schema.classes)] + schema.columns.map { ($0.name, $0.categories ?? []) }).compactMap { name, texts in
            let alike = Dictionary(grouping: texts) { $0.lowercased() }.values.filter { $0.count > 1 }.min { $0[0] < $1[0] }
            return alike.map { "'\($0[0])' and '\($0[1])' in '\(name)' differ in the case of letters only, and are taken for two" }
        }
    }
}
