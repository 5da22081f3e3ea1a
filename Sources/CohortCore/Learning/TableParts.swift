/// The rows of a packed table in parts: the training rows in the session's shuffled order, then the held-out rows in the file's order. Every part but
/// the last has ``rowsPerPart`` rows.
public struct TableParts: Codable, Hashable, Sendable {
    public var trainingRows: Int
    public var validationRows: Int
    public var recordBytes: Int
    public var rowsPerPart: Int

    /// Parts of a large table; a small one has fewer, so that a part has a mebibyte.
    private static let wanted = 256
    private static let partBytes = (1 << 20)...maxPartBytes
    public static let maxPartBytes = 64 << 20

    public init(trainingRows: Int, validationRows: Int, recordBytes: Int) {
        (self.trainingRows, self.validationRows, self.recordBytes) = (trainingRows, validationRows, recordBytes)
        let bytes = (trainingRows + validationRows) * recordBytes / Self.wanted
        rowsPerPart = max(1, min(max(bytes, Self.partBytes.lowerBound), Self.partBytes.upperBound) / max(recordBytes, 1))
    }

    public var rows: Int { trainingRows + validationRows }
    public var bytes: Int { rows * recordBytes }
    public var count: Int { (rows + rowsPerPart - 1) / rowsPerPart }

    /// The rows of a part, as places in the table.
    public func rows(of part: Int) -> Range<Int> { (part * rowsPerPart)..<min((part + 1) * rowsPerPart, rows) }

    /// The parts that have any of these rows.
    public func parts(of rows: Range<Int>) -> Range<Int> {
        rows.isEmpty ? 0..<0 : (rows.lowerBound / rowsPerPart)..<((rows.upperBound - 1) / rowsPerPart + 1)
    }

    /// The place of each training row, by its rank in the file: the inverse of the Fisher–Yates permutation of the stream `rows` of `seed`.
    public func places(seed: UInt64) -> [UInt32] {
        var permutation = (0..<UInt32(trainingRows)).map { $0 }
        var generator = SeededGenerator(seed: seed, purpose: "rows")
        generator.shuffle(&permutation)
        return [UInt32](unsafeUninitializedCapacity: trainingRows) { places, count in
            for (place, rank) in permutation.enumerated() { places[Int(rank)] = UInt32(place) }
            count = trainingRows
        }
    }
}
