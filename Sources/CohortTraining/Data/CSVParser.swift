import CohortCore

/// Takes a CSV's bytes in chunks of any size and tells its records (RFC 4180): quoted fields may hold delimiters, doubled quotes
/// and line breaks; CRLF, LF and CR end records; a UTF-8 byte order mark and blank lines are skipped; the last line needs no break. A
/// quote within an unquoted field is itself.
struct CSVParser {
    /// Bytes of one field.
    static let maxFieldBytes = 1 << 20
    /// Bytes of one record.
    static let maxRecordBytes = 16 << 20
    static let maxFields = 1 << 16

    private enum State { case start, plain, quoted, quoteInQuoted }

    private let delimiter: UInt8
    /// The record's bytes, unquoted, back to back.
    private var bytes: [UInt8] = []
    /// The starts of the record's fields in `bytes`, with that of the current one.
    private var starts: [UInt32] = [0]
    /// The line that the record begins on.
    private var firstLine = 1
    private var state = State.start
    /// The line that is being read.
    private(set) var line = 1
    /// The byte before was a carriage return: a line feed after it belongs to the same break.
    private var afterReturn = false
    /// All of the field's bytes, ORed: the eighth bit says that it is not plain ASCII.
    private var bits: UInt8 = 0
    /// Bytes of the byte order mark seen so far; nil once past it.
    private var mark: Int? = 0
    private var wasQuoted = false
    /// A whole record is there to be taken.
    private var isWhole = false

    init(delimiter: UInt8) { self.delimiter = delimiter }

    /// No byte of a record was read yet: another parser may read the next.
    var isBetweenRecords: Bool {
        mark == nil && !afterReturn && state == .start && (isWhole || (bytes.isEmpty && starts.count == 1 && !wasQuoted))
    }

    /// Takes bytes up to the end of a record, or all of them.
    /// - Returns: how many were taken; the record may be there to take, or none if more is needed or a blank line was skipped.
    /// - Throws: ``CohortError`` `invalid` with line and column.
    mutating func feed(_ chunk: UnsafeBufferPointer<UInt8>) throws -> Int {
        startRecord()
        var index = skipMark(chunk)
        while index < chunk.count, !isWhole {
            switch state {
            case .start, .plain: try plain(chunk, &index)
            case .quoted: try quoted(chunk, &index)
            case .quoteInQuoted: try afterQuote(chunk, &index)
            }
            if isBetweenRecords { break }
        }
        return index
    }

    /// After the last byte: ends the last record, when no line break did.
    mutating func finish() throws {
        startRecord()
        if let seen = mark, seen > 0 {
            bytes.append(contentsOf: [0xef, 0xbb][..<seen])
            bits = 0x80
        }
        if state == .quoted { throw CohortError(.invalid, "line \(firstLine)\(place): a quote that opens there is never closed") }
        if !bytes.isEmpty || starts.count > 1 || wasQuoted { try endRecord() }
    }

    /// Lends the whole record to `body`, if there is one.
    func withRecord<Result>(_ body: (CSVRecord) throws -> Result) rethrows -> Result? {
        guard isWhole else { return nil }
        return try bytes.withUnsafeBufferPointer { bytes in
            try starts.withUnsafeBufferPointer { starts in
                try body(
                    CSVRecord(
                        bytes: bytes.baseAddress, starts: starts.baseAddress, count: starts.count - 1, gap: 0, line: firstLine))
            }
        }
    }

    /// Another has read records of so many lines.
    mutating func skip(lines: Int) {
        startRecord()
        line += lines
        firstLine = line
    }

    /// Forgets the record that was taken.
    private mutating func startRecord() {
        guard isWhole else { return }
        clear()
        isWhole = false
    }

    private mutating func clear() {
        bytes.removeAll(keepingCapacity: true)
        starts.removeLast(starts.count - 1)
        firstLine = line
        wasQuoted = false
    }

    // MARK: States

    /// Reads an unquoted field up to its end.
    private mutating func plain(_ chunk: UnsafeBufferPointer<UInt8>, _ index: inout Int) throws {
        if state == .start, chunk[index] == 0x22 {
            (state, wasQuoted, afterReturn) = (.quoted, true, false)
            index += 1
            return
        }
        let begin = index
        var seen: UInt8 = 0
        while index < chunk.count, case let byte = chunk[index], byte != delimiter, byte != 0x0a, byte != 0x0d, byte != 0 {
            seen |= byte
            index += 1
        }
        if index > begin {
            try append(UnsafeBufferPointer(rebasing: chunk[begin..<index]), seen)
            (state, afterReturn) = (.plain, false)
        }
        if index < chunk.count { try end(chunk[index], &index) }
    }

    private mutating func quoted(_ chunk: UnsafeBufferPointer<UInt8>, _ index: inout Int) throws {
        let begin = index
        var seen: UInt8 = 0
        while index < chunk.count, case let byte = chunk[index], byte != 0x22, byte != 0 {
            seen |= byte
            if byte == 0x0d || (byte == 0x0a && !afterReturn) { line += 1 }
            afterReturn = byte == 0x0d
            index += 1
        }
        try append(UnsafeBufferPointer(rebasing: chunk[begin..<index]), seen)
        guard index < chunk.count else { return }
        if chunk[index] == 0 { throw zero }
        (state, afterReturn) = (.quoteInQuoted, false)
        index += 1
    }

    private mutating func afterQuote(_ chunk: UnsafeBufferPointer<UInt8>, _ index: inout Int) throws {
        switch chunk[index] {
        case 0x22:
            bytes.append(0x22)
            state = .quoted
            index += 1
        case delimiter, 0x0a, 0x0d, 0: try end(chunk[index], &index)
        case 0x20: index += 1
        default:
            throw CohortError(
                .invalid, "line \(line)\(place): text after a closing quote; a quote within a quoted field is written twice")
        }
    }

    /// Handles a delimiter, a line break or a zero byte.
    private mutating func end(_ byte: UInt8, _ index: inout Int) throws {
        index += 1
        switch byte {
        case delimiter:
            try endField()
            (state, afterReturn) = (.start, false)
        case 0x0a where afterReturn: afterReturn = false
        case 0x0a, 0x0d:
            line += 1
            try endRecord()
            afterReturn = byte == 0x0d
        default: throw zero
        }
    }

    // MARK: Fields and records

    private mutating func append(_ more: UnsafeBufferPointer<UInt8>, _ seen: UInt8) throws {
        bits |= seen
        bytes.append(contentsOf: more)
        let length = bytes.count - fieldStart
        guard length <= Self.maxFieldBytes, bytes.count <= Self.maxRecordBytes else {
            let hint = wasQuoted ? "; was a quote never closed?" : ""
            throw CohortError(
                .invalid,
                length > Self.maxFieldBytes
                    ? "line \(firstLine)\(place): a field is longer than \(Self.maxFieldBytes >> 20) MiB\(hint)"
                    : "line \(firstLine): a record is longer than \(Self.maxRecordBytes >> 20) MiB\(hint)")
        }
    }

    private var fieldStart: Int { Int(starts[starts.count - 1]) }

    private mutating func endField() throws {
        if bits & 0x80 != 0, String(validating: bytes[fieldStart...], as: UTF8.self) == nil {
            throw CohortError(.invalid, "line \(firstLine)\(place): the text is not UTF-8; save the file as CSV in UTF-8")
        }
        bits = 0
        starts.append(UInt32(bytes.count))
        guard starts.count - 1 <= Self.maxFields else {
            throw CohortError(.invalid, "line \(firstLine): more than \(Self.maxFields) fields")
        }
    }

    private mutating func endRecord() throws {
        try endField()
        state = .start
        let isBlank = starts.count == 2 && !wasQuoted && bytes.allSatisfy { $0 == 0x20 || $0 == 0x09 }
        if isBlank { clear() } else { isWhole = true }
    }

    private var place: String { ", column \(starts.count)" }

    private var zero: CohortError {
        CohortError(.invalid, "line \(line)\(place): a zero byte; this is not a CSV in UTF-8")
    }

    private mutating func skipMark(_ chunk: UnsafeBufferPointer<UInt8>) -> Int {
        guard var seen = mark else { return 0 }
        let bytes: [UInt8] = [0xef, 0xbb, 0xbf]
        var index = 0
        while index < chunk.count, seen < 3, chunk[index] == bytes[seen] { (index, seen) = (index + 1, seen + 1) }
        if seen == 3 {
            mark = nil
        } else if index < chunk.count {
            // Not a mark after all: what looked like its start is text.
            self.bytes.append(contentsOf: bytes[..<seen])
            if seen > 0 { (state, bits) = (.plain, 0x80) }
            mark = nil
        } else {
            mark = seen
        }
        return index
    }
}
