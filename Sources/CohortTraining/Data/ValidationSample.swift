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

    /// Reads the held-out rows of a packed table, a part at a time.
    /// - Parameters:
    ///   - maxRows: more are thinned out evenly.
    ///   - part: a part's records.
    /// - Returns: nil when no rows are held out.
    /// - Throws: ``CohortError`` `internal` for records that are damaged; what `part` throws.
    public static func load(
        _ manifest: TableManifest, dictionary: [Float], maxRows: Int, part: (Int) async throws -> [UInt8]
    ) async throws -> ValidationSample? {
        let (parts, layout) = (manifest.parts, manifest.layout)
        let total = parts.validationRows
        guard total > 0, maxRows > 0 else { return nil }
        let count = min(total, maxRows)
        // The k-th row chosen is the first at or past k · total / count.
        let positions = (0..<count).map { ($0 * total + count - 1) / count }
        var records: [UInt8] = []
        records.reserveCapacity(count * layout.recordBytes)
        var next = 0
        for number in parts.parts(of: parts.trainingRows..<parts.rows) {
            let rows = parts.rows(of: number)
            let bytes = try await part(number)
            while next < count, rows.contains(parts.trainingRows + positions[next]) {
                let place = (parts.trainingRows + positions[next] - rows.lowerBound) * layout.recordBytes
                records += bytes[place..<(place + layout.recordBytes)]
                next += 1
            }
        }
        do {
            try records.withUnsafeBytes { try layout.check(records: $0, outputs: manifest.outputs) }
        } catch let error as CohortError {
            throw CohortError(.internal, "the held-out rows are damaged: \(error.message)")
        }
        let memory = UnsafeMutableRawPointer.allocate(byteCount: records.count, alignment: 8)
        records.withUnsafeBytes { bytes in bytes.baseAddress.map { memory.copyMemory(from: $0, byteCount: bytes.count) } }
        nonisolated(unsafe) let owned = memory  // Given back once, when the table goes; read until then.
        let table = FeatureTable(
            .packed(PackedRows(base: memory, layout: layout, dictionary: dictionary)), rowCount: count, featureCount: layout.featureCount,
            trainingRows: [], validationRows: (0..<UInt32(count)).map { $0 }, release: { owned.deallocate() })
        return ValidationSample(table: table, positions: positions, total: total)
    }

    /// Those of the positions `range` that are in the sample, as rows of ``table``.
    public func rows(in range: RowRange) -> ArraySlice<UInt32> {
        let first = positions.firstIndex { $0 >= range.start } ?? positions.count
        let end = positions.firstIndex { $0 >= range.end } ?? positions.count
        return table.validationRows[first..<max(first, end)]
    }
}
