import CKernels
import CohortCore

/// Reads a CSV many records at a time: plain ones are split where they lie, all others go through the ``CSVParser``, which knows every
/// case. The result does not depend on it. The memory is a few megabytes, whatever the records are.
struct CSVBatches {
    /// Records in the file's order, lent until `body` returns.
    typealias Batch = UnsafeBufferPointer<CSVRecord>

    /// Fields in a batch, at most; some more than a record may have.
    private static let maxFields = 1 << 20

    let delimiter: UInt8
    /// Bytes read at once; a longer record goes through the parser.
    let capacity: Int

    /// - Parameters:
    ///   - read: fills a buffer; returns how many bytes, 0 at the end.
    ///   - body: called with records until it returns false.
    func forEach(from read: (UnsafeMutableRawBufferPointer) throws -> Int, _ body: (Batch) throws -> Bool) throws {
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: capacity)
        defer { buffer.deallocate() }
        let splitter = Splitter(delimiter: delimiter, fields: min(capacity, Self.maxFields))
        defer { splitter.deallocate() }
        var parser = CSVParser(delimiter: delimiter)
        var rest = buffer[..<0]
        while true {
            // Plain records, as far as they go.
            if parser.isBetweenRecords, splitter.isUsable, !rest.isEmpty {
                let found = splitter.split(UnsafeBufferPointer(rebasing: rest), line: parser.line)
                parser.skip(lines: found.lines)
                rest = rest.dropFirst(found.bytes)
                if !found.records.isEmpty, try !body(found.records) { return }
                if found.next == .isPlain { continue }
                if found.next == .needsMore, rest.count < capacity {
                    // To the front, so that there is space behind it.
                    let count = buffer.update(fromContentsOf: UnsafeBufferPointer(rebasing: rest))
                    let more = try read(UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: buffer[count...])))
                    rest = buffer[..<(count + more)]
                    if more > 0 { continue }
                }
            }
            // One that is not, or the last.
            if rest.isEmpty {
                let count = try read(UnsafeMutableRawBufferPointer(buffer))
                rest = buffer[..<count]
                if count == 0 { break }
                continue
            }
            rest = rest.dropFirst(try parser.feed(UnsafeBufferPointer(rebasing: rest)))
            if try parser.withRecord({ record in try lend(record, body) }) == false { return }
        }
        try parser.finish()
        _ = try parser.withRecord { record in try lend(record, body) }
    }

    private func lend(_ record: CSVRecord, _ body: (Batch) throws -> Bool) rethrows -> Bool {
        try withUnsafePointer(to: record) { try body(Batch(start: $0, count: 1)) }
    }
}

/// Splits plain records where they lie. Owns the memory that it tells where.
private struct Splitter {
    enum Next { case isPlain, isOdd, needsMore }

    private let delimiter: UInt8
    private let fields: Int
    private let starts: UnsafeMutablePointer<UInt32>
    private let lasts: UnsafeMutablePointer<UInt32>
    private let records: UnsafeMutableBufferPointer<CSVRecord>

    init(delimiter: UInt8, fields: Int) {
        self.delimiter = delimiter
        self.fields = fields
        starts = .allocate(capacity: fields + 72)
        lasts = .allocate(capacity: fields + 72)
        records = .allocate(capacity: fields + 72)
    }

    func deallocate() {
        starts.deallocate()
        lasts.deallocate()
        records.deallocate()
    }

    /// A schema may name any delimiter.
    var isUsable: Bool { delimiter != 0x0a && delimiter != 0x0d }

    /// - Returns: the records but blank lines, how many bytes and lines were taken, and what is after them.
    func split(_ bytes: UnsafeBufferPointer<UInt8>, line: Int) -> (records: CSVBatches.Batch, bytes: Int, lines: Int, next: Next) {
        let split = cohort_csv_split_records(bytes.baseAddress, bytes.count, delimiter, starts, lasts, fields)
        var count = 0
        var first = 0
        for index in 0..<split.records {
            let last = Int(lasts[index])
            let record = CSVRecord(bytes: bytes.baseAddress, starts: starts + first, count: last - first, gap: 1, line: line + index)
            // Too much for a record or a field is an error, which the parser tells.
            if record.count > CSVParser.maxFields || record.size > CSVParser.maxFieldBytes {
                return (batch(count), Int(starts[first]), index, .isOdd)
            }
            if record.count > 1 || !record.trimmed(0).isEmpty {
                records[count] = record
                count += 1
            }
            first = last
        }
        let next: Next =
            switch split.stop {
            case COHORT_CSV_ODD: .isOdd
            // Full without a whole record: the parser's.
            case COHORT_CSV_FULL: split.records > 0 ? .isPlain : .isOdd
            default: .needsMore
            }
        return (batch(count), split.used, split.records, next)
    }

    private func batch(_ count: Int) -> CSVBatches.Batch { CSVBatches.Batch(rebasing: records[..<count]) }
}
