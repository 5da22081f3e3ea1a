import CohortCore

/// Reads a CSV file record by record, in chunks: memory stays flat however large the file is.
struct CSVReader {
    private static let chunk = 1 << 22

    let path: String
    let format: CSVFormat

    init(path: String, format: CSVFormat) {
        self.path = path
        self.format = format
    }

    /// Calls `body` for each record, until it returns false.
    /// - Throws: ``CohortError`` `invalid` with line and column; what `body` throws.
    func forEach(_ body: (CSVRecord) throws -> Bool) throws {
        try forEachBatch { records in
            for record in records where try !body(record) { return false }
            return true
        }
    }

    /// Calls `body` with the records in order, many at a time where they are plain, until it returns false.
    /// - Throws: ``CohortError`` `invalid` with line and column; what `body` throws.
    func forEachBatch(_ body: (CSVBatches.Batch) throws -> Bool) throws {
        let source = try ByteSource(path: path, format: format)
        let batches = CSVBatches(delimiter: format.separator, capacity: Self.chunk)
        try batches.forEach(from: source.read, body)
    }
}
