public import CohortCore

/// Finds the columns of a model that training goes on from in another file.
struct ModelColumns {
    private let model: TableSchema

    init(_ model: TableSchema) { self.model = model }

    /// - Returns: the file's columns, in its order, each as the model reads it; what the model does not read is ignored.
    /// - Throws: ``CohortError`` `invalid` for a column that is missing, or holds what the model cannot read.
    func columns(_ look: FirstLook, header: Header, options: DataOptions) throws -> [TableSchema.Column] {
        let missing = model.featureNames.filter { !header.names.contains($0) }
        guard missing.isEmpty else {
            throw CohortError(
                .invalid,
                "columns are missing that the model predicts from: \(SchemaInference.list(missing)); the file has \(SchemaInference.list(header.names))"
            )
        }
        let known = Dictionary(model.columns.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        return try look.scans.map { scan in
            guard var column = known[scan.name] else {
                return TableSchema.Column(
                    name: scan.name, kind: .ignored, missing: scan.missing,
                    note: scan.name == options.group ? nil : "is not a column of the model, and is ignored")
            }
            column.missing = scan.missing
            column.note = nil
            try check(scan, column)
            return column
        }
    }

    private func check(_ scan: ColumnScan, _ column: TableSchema.Column) throws {
        guard column.kind == .numeric, let example = scan.example else { return }
        throw CohortError(
            .invalid,
            "line \(example.line): '\(example.text)' in the column '\(column.name)' is not a number, as which the model reads it\(scan.hint.map { ": \($0)" } ?? "")"
        )
    }
}

extension TableSchema {
    /// The columns that features are made from.
    var featureNames: [String] { columns.filter { $0.featureCount > 0 }.map(\.name) }

    /// The model's classes in place of the file's, with the file's numbers of rows.
    /// - Throws: ``CohortError`` `invalid` for a class that the model does not know.
    mutating func takeClasses(of model: TableSchema) throws {
        guard task == .classification else { return }
        if let unknown = classes.first(where: { !model.classes.contains($0) }) {
            throw CohortError(
                .invalid,
                "'\(unknown.prefix(40))' in the target column '\(target)' is not a class of the model, which has \(SchemaInference.list(model.classes))"
            )
        }
        func moved(_ counts: [Int]?) -> [Int]? {
            guard let counts else { return nil }
            let rows = Dictionary(zip(classes, counts), uniquingKeysWith: +)
            return model.classes.map { rows[$0] ?? 0 }
        }
        (classCounts, validationCounts, classes) = (moved(classCounts), moved(validationCounts), model.classes)
    }

    /// Maps this schema's features to another one's; nil when they are the same, in the same order.
    /// - Parameter other: with the same feature columns.
    public func featureOrder(in other: TableSchema) -> [Int]? {
        var starts: [String: Int] = [:]
        var next = 0
        for column in other.columns where column.featureCount > 0 {
            starts[column.name] = next
            next += column.featureCount
        }
        let order = columns.filter { $0.featureCount > 0 }.flatMap { column in
            let start = starts[column.name] ?? 0
            return Array(start..<(start + column.featureCount))
        }
        return order == Array(order.indices) ? nil : order
    }
}
