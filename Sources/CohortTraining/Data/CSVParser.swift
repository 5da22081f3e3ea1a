import CohortCore

/// Takes a CSV's bytes in chunks of any size and hands out its records (RFC 4180): quoted fields may hold delimiters, doubled quotes
/// and line breaks; CRLF, LF and CR end records; a UTF-8 byte order mark and blank lines are skipped; the last line needs no break. A
/// quote within an unquoted field is itself.
struct CSVParser {
    /// Bytes of one field.
    static let longestField = 1 << 20
    /// Bytes of one record.
    static let longestRecord = 16 << 20
    static let mostFields = 1 << 16

    private enum State { case start, plain, quoted, quoteInQuoted }

    private let delimiter: UInt8
    private var record = CSVRecord()
    private var state = State.start
    private var line = 1
    /// The byte before was a carriage return: a line feed after it belongs to the same break.
    private var afterReturn = false
    /// All of the record's bytes, ORed: the eighth bit says that it is not plain ASCII.
    private var bits: UInt8 = 0
    /// Bytes of the byte order mark seen so far; nil once past it.
    private var mark: Int? = 0
    private var wasQuoted = false
    private var isStopped = false

    init(delimiter: UInt8) { self.delimiter = delimiter }

    /// - Parameter body: called for each record; false stops.
    /// - Returns: whether more is wanted.
    /// - Throws: ``CohortError`` `invalid` with line and column.
    mutating func feed(_ chunk: UnsafeBufferPointer<UInt8>, _ body: (borrowing CSVRecord) throws -> Bool) throws -> Bool {
        var index = skipMark(chunk)
        while index < chunk.count, !isStopped {
            switch state {
            case .start, .plain: try plain(chunk, &index, body)
            case .quoted: try quoted(chunk, &index)
            case .quoteInQuoted: try afterQuote(chunk, &index, body)
            }
        }
        return !isStopped
    }

    /// Hands out the last record, when no line break ended it.
    mutating func finish(_ body: (borrowing CSVRecord) throws -> Bool) throws {
        guard !isStopped else { return }
        if let seen = mark, seen > 0 { record.bytes.append(contentsOf: [0xef, 0xbb][..<seen]) }
        if state == .quoted { throw CohortError(.invalid, "line \(record.line)\(place): a quote that opens there is never closed") }
        if !record.bytes.isEmpty || !record.ends.isEmpty || wasQuoted { try endRecord(body) }
    }

    // MARK: States

    /// At the start of a field, or within an unquoted one: takes bytes up to what ends it.
    private mutating func plain(
        _ chunk: UnsafeBufferPointer<UInt8>, _ index: inout Int, _ body: (borrowing CSVRecord) throws -> Bool
    ) throws {
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
        if index < chunk.count { try end(chunk[index], &index, body) }
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

    private mutating func afterQuote(
        _ chunk: UnsafeBufferPointer<UInt8>, _ index: inout Int, _ body: (borrowing CSVRecord) throws -> Bool
    ) throws {
        switch chunk[index] {
        case 0x22:
            record.bytes.append(0x22)
            state = .quoted
            index += 1
        case delimiter, 0x0a, 0x0d, 0: try end(chunk[index], &index, body)
        case 0x20: index += 1
        default:
            throw CohortError(
                .invalid, "line \(line)\(place): text after a closing quote; a quote within a quoted field is written twice")
        }
    }

    /// At a delimiter, a line break or a zero byte.
    private mutating func end(_ byte: UInt8, _ index: inout Int, _ body: (borrowing CSVRecord) throws -> Bool) throws {
        index += 1
        switch byte {
        case delimiter:
            try endField()
            (state, afterReturn) = (.start, false)
        case 0x0a where afterReturn: afterReturn = false
        case 0x0a, 0x0d:
            line += 1
            try endRecord(body)
            afterReturn = byte == 0x0d
        default: throw zero
        }
    }

    // MARK: Fields and records

    private mutating func append(_ bytes: UnsafeBufferPointer<UInt8>, _ seen: UInt8) throws {
        bits |= seen
        record.bytes.append(contentsOf: bytes)
        let length = record.bytes.count - (record.ends.last ?? 0)
        guard length <= Self.longestField, record.bytes.count <= Self.longestRecord else {
            let hint = wasQuoted ? "; was a quote never closed?" : ""
            throw CohortError(
                .invalid,
                length > Self.longestField
                    ? "line \(record.line)\(place): a field is longer than \(Self.longestField >> 20) MiB\(hint)"
                    : "line \(record.line): a record is longer than \(Self.longestRecord >> 20) MiB\(hint)")
        }
    }

    private mutating func endField() throws {
        if bits & 0x80 != 0 {
            let field = record.bytes[(record.ends.last ?? 0)...]
            guard String(validating: field, as: UTF8.self) != nil else {
                throw CohortError(.invalid, "line \(record.line)\(place): the text is not UTF-8; save the file as CSV in UTF-8")
            }
        }
        bits = 0
        record.ends.append(record.bytes.count)
        guard record.ends.count <= Self.mostFields else {
            throw CohortError(.invalid, "line \(record.line): more than \(Self.mostFields) fields")
        }
    }

    private mutating func endRecord(_ body: (borrowing CSVRecord) throws -> Bool) throws {
        try endField()
        let isBlank = record.count == 1 && !wasQuoted && record.trimmed(0).isEmpty
        if !isBlank, try !body(record) { isStopped = true }
        record.clear()
        record.line = line
        (state, wasQuoted) = (.start, false)
    }

    private var place: String { ", column \(record.ends.count + 1)" }

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
            record.bytes.append(contentsOf: bytes[..<seen])
            if seen > 0 { (state, bits) = (.plain, 0x80) }
            mark = nil
        } else {
            mark = seen
        }
        return index
    }
}
