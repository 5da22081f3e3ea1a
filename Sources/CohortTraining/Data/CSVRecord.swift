import CKernels

/// The bytes of a cell, lent like the record that they are of.
typealias CellBytes = UnsafeBufferPointer<UInt8>

/// One record of a CSV, lent: its fields' bytes are gone when the call that it was handed to returns.
struct CSVRecord {
    /// The record for the kernels.
    let fields: cohort_csv_record

    /// - Parameters:
    ///   - starts: where in `bytes` the fields start, and one more: field i ends at `starts[i + 1] - gap`.
    ///   - gap: 1: fields as the file has them, a separator after each; 0: unquoted fields, back to back.
    ///   - line: that it begins on, from 1.
    init(bytes: UnsafePointer<UInt8>?, starts: UnsafePointer<UInt32>?, count: Int, gap: Int, line: Int) {
        fields = cohort_csv_record(bytes: bytes, starts: starts, count: count, gap: gap, line: line)
    }

    /// Fields.
    var count: Int { fields.count }
    /// The line it begins on, from 1.
    var line: Int { fields.line }
    /// Bytes of the record, about.
    var size: Int { Int(fields.starts[count] - fields.starts[0]) }

    /// The field as text, without spaces around it.
    func text(_ index: Int) -> String { String(decoding: trimmed(index), as: UTF8.self) }

    /// The field's bytes, without spaces around them.
    func trimmed(_ index: Int) -> CellBytes {
        let start = Int(fields.starts[index])
        var end = Int(fields.starts[index + 1]) - fields.gap
        // A record as the file has it holds a carriage return only before the line feed at its end.
        if fields.gap > 0, end > start, fields.bytes[end - 1] == 0x0d { end -= 1 }
        return CellBytes(start: fields.bytes?.advanced(by: start), count: end - start).trimmed
    }
}

extension CellBytes {
    /// Without spaces and tabs around it.
    var trimmed: CellBytes {
        var start = startIndex
        var end = endIndex
        while start < end, self[start] == 0x20 || self[start] == 0x09 { start += 1 }
        while start < end, self[end - 1] == 0x20 || self[end - 1] == 0x09 { end -= 1 }
        return CellBytes(rebasing: self[start..<end])
    }

    /// A key for short texts, without making a string: at most 7 bytes and their count; nil for a longer text.
    var shortKey: UInt64? {
        guard count < 8 else { return nil }
        return reduce(UInt64(count)) { $0 << 8 | UInt64($1) }
    }

    /// The text of a ``shortKey``.
    static func text(ofShortKey key: UInt64) -> String {
        let count = (0..<8).first { key >> (8 * UInt64($0)) == UInt64($0) } ?? 0
        return String(decoding: (0..<count).reversed().map { UInt8(truncatingIfNeeded: key >> (8 * UInt64($0))) }, as: UTF8.self)
    }
}

extension String {
    /// Lends the text's bytes.
    func withBytes<Result>(_ body: (CellBytes) throws -> Result) rethrows -> Result {
        var text = self
        return try text.withUTF8(body)
    }
}
