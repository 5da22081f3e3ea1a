public import CohortCore

/// Held-out rows in memory, to measure models on: all of them, or an even choice where they are many.
public struct ValidationSample: Sendable {
    /// Every row is a validation row, in the order of the file.
    public let table: FeatureTable
    /// The positions of the rows of `table` among all validation rows, ascending.
    public let positions: [Int]
    /// The number of validation rows.
    public let total: Int

    public var isWhole: Bool { positions.count == total }

    /// Parses the file for its held-out rows.
    /// - Parameters:
    ///   - maxRows: more are thinned out evenly.
    /// - Returns: nil when no rows are held out.
    /// - Throws: ``CohortError`` `invalid` with line and column; `CancellationError`.
    public static func load(
        csvAt path: String, schema: TableSchema, maxRows: Int, shouldContinue: () -> Bool = { true }
    ) throws -> ValidationSample? {
        let total = schema.validationRows
        let features = schema.featureCount
        guard total > 0, maxRows > 0, features > 0, let target = schema.columns.firstIndex(where: { $0.kind == .target })
        else { return nil }
        let reader = CSVReader(path: path, format: try CSVFormat(schema))
        var usable = try UsableRows(schema: schema)
        let count = min(total, maxRows)
        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: count * features)
        let targets = UnsafeMutablePointer<Float>.allocate(capacity: count)
        values.update(repeating: 0)
        targets.update(repeating: 0, count: count)
        nonisolated(unsafe) let memory = (values.baseAddress, targets)  // Given back once, when the table goes.
        var positions: [Int] = []
        let transform = RowTransform(schema: schema)
        let (mean, std) = (schema.columns[target].mean ?? 0, schema.columns[target].std ?? 1)
        var position = 0
        do {
            try SchemaInference.forEachBatch(reader, hasHeader: schema.hasHeader, shouldContinue) { records in
                for record in records {
                    guard let row = try usable.next(record), row.isValidation else { continue }
                    defer { position += 1 }
                    // The k-th row chosen is the first at or past k · total / count.
                    guard positions.count < count, position * count >= positions.count * total else { continue }
                    let place = positions.count
                    try transform.encode(
                        record, into: UnsafeMutableBufferPointer(rebasing: values[(place * features)..<((place + 1) * features)]))
                    targets[place] = Float(schema.task == .classification ? row.target : (row.target - mean) / std)
                    positions.append(position)
                }
            }
            guard position == total, positions.count == count else {
                throw CohortError(.invalid, "the file has \(position) held-out rows where its schema says \(total)")
            }
        } catch {
            values.deallocate()
            targets.deallocate()
            throw error
        }
        let rows = (0..<UInt32(count)).map { $0 }
        guard let base = values.baseAddress else { return nil }
        return ValidationSample(
            table: FeatureTable(
                .dense(features: base, targets: targets), rowCount: count, featureCount: features, trainingRows: [], validationRows: rows,
                release: {
                    memory.0?.deallocate()
                    memory.1.deallocate()
                }),
            positions: positions, total: total)
    }

    /// Those of the positions `range` that are in the sample, as rows of ``table``.
    public func rows(in range: RowRange) -> ArraySlice<UInt32> {
        let first = positions.firstIndex { $0 >= range.start } ?? positions.count
        let end = positions.firstIndex { $0 >= range.end } ?? positions.count
        return table.validationRows[first..<max(first, end)]
    }
}
