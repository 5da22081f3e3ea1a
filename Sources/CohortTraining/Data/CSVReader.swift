import CohortCore

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// One record of a CSV: its fields' bytes, unquoted, back to back.
struct CSVRecord {
    fileprivate(set) var bytes: [UInt8] = []
    /// Where each field ends in `bytes`.
    fileprivate(set) var ends: [Int] = []
    /// The line it begins on, from 1.
    fileprivate(set) var line = 1

    var count: Int { ends.count }

    func range(_ index: Int) -> Range<Int> { (index == 0 ? 0 : ends[index - 1])..<ends[index] }

    /// The field as text, without spaces around it.
    func text(_ index: Int) -> String { String(decoding: trimmed(index), as: UTF8.self) }

    func trimmed(_ index: Int) -> ArraySlice<UInt8> {
        var range = range(index)
        while let first = range.first, bytes[first] == 0x20 || bytes[first] == 0x09 { range = range.dropFirst() }
        while let last = range.last, bytes[last] == 0x20 || bytes[last] == 0x09 { range = range.dropLast() }
        return bytes[range]
    }

    fileprivate mutating func clear() {
        bytes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
    }
}

/// Reads a CSV (RFC 4180) as records, in chunks: memory stays flat however large the file is. Quoted fields may hold delimiters, doubled
/// quotes and line breaks; CRLF, LF and CR end records; a UTF-8 byte order mark and blank lines are skipped; the last line needs no break.
struct CSVReader {
    /// Bytes: past it a quote was most likely never closed.
    static let longestRecord = 16 << 20
    private static let chunk = 1 << 20

    let path: String
    let delimiter: UInt8

    init(path: String, delimiter: UInt8) {
        self.path = path
        self.delimiter = delimiter
    }

    /// Tells the delimiter from the first line: the one of `,` `;` tab `|` that stands there most often outside quotes.
    /// - Throws: ``CohortError`` `invalid` for an empty file and for one that is not text in UTF-8.
    static func sniffDelimiter(path: String) throws -> UInt8 {
        var head = [UInt8](repeating: 0, count: 1 << 16)
        let file = try open(path)
        defer { close(file) }
        let count = read(file, &head, head.count)
        guard count > 0 else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        head.removeSubrange(count...)
        if head.starts(with: [0xff, 0xfe]) || head.starts(with: [0xfe, 0xff]) {
            throw CohortError(.invalid, "the file is UTF-16: save it as CSV in UTF-8")
        }
        if head.contains(0) { throw CohortError(.invalid, "the file holds zero bytes: it is not a CSV in UTF-8") }
        var counts: [UInt8: Int] = [:]
        var quoted = false
        for byte in head {
            if byte == UInt8(ascii: "\"") { quoted.toggle() }
            if !quoted, byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") {
                if counts.isEmpty { continue } else { break }
            }
            if !quoted, [UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "\t"), UInt8(ascii: "|")].contains(byte) {
                counts[byte, default: 0] += 1
            }
        }
        return counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key ?? UInt8(ascii: ",")
    }

    private static func open(_ path: String) throws -> Int32 {
        #if canImport(Glibc)
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        #else
        let file = Darwin.open(path, O_RDONLY | O_CLOEXEC)
        #endif
        guard file >= 0 else { throw CohortError(.invalid, "\(path) cannot be read: \(String(cString: strerror(errno)))") }
        return file
    }

    private enum State { case start, plain, quoted, quoteInQuoted }

    /// Calls `body` for each record, until it returns false.
    func forEach(_ body: (borrowing CSVRecord) throws -> Bool) throws {
        let file = try Self.open(path)
        defer { close(file) }
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: Self.chunk)
        defer { buffer.deallocate() }
        var record = CSVRecord()
        record.bytes.reserveCapacity(4096)
        var state = State.start
        var line = 1
        var afterCR = false
        var first = true

        // Ends a record; returns false to stop. A blank line is none.
        func end() throws -> Bool {
            defer { record.clear() }
            record.ends.append(record.bytes.count)
            if record.ends.count == 1, record.bytes.isEmpty, state == .start { return true }
            return try body(record)
        }

        while true {
            let count = read(file, buffer.baseAddress, buffer.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw CohortError(.invalid, "\(path) cannot be read: \(String(cString: strerror(errno)))")
            }
            if count == 0 { break }
            var index = 0
            if first, count >= 3, buffer[0] == 0xef, buffer[1] == 0xbb, buffer[2] == 0xbf { index = 3 }
            first = false
            while index < count {
                let byte = buffer[index]
                index += 1
                if byte == 0 { throw CohortError(.invalid, "line \(line): a zero byte; this is not a CSV in UTF-8") }
                if state == .quoted {
                    if byte == 0x22 {
                        state = .quoteInQuoted
                    } else {
                        if byte == 0x0a { line += 1 }
                        record.bytes.append(byte)
                        if record.bytes.count > Self.longestRecord {
                            throw CohortError(.invalid, "line \(record.line): a quote that opens there is not closed within \(Self.longestRecord >> 20) MiB")
                        }
                    }
                    continue
                }
                switch byte {
                case delimiter:
                    if record.ends.isEmpty && record.bytes.isEmpty { record.line = line }
                    record.ends.append(record.bytes.count)
                    state = .start
                    afterCR = false
                case 0x0a, 0x0d:
                    if byte == 0x0a, afterCR {
                        afterCR = false
                        continue
                    }
                    if record.ends.isEmpty && record.bytes.isEmpty { record.line = line }
                    guard try end() else { return }
                    state = .start
                    line += 1
                    afterCR = byte == 0x0d
                case 0x22 where state == .start:
                    if record.ends.isEmpty && record.bytes.isEmpty { record.line = line }
                    state = .quoted
                    afterCR = false
                case 0x22 where state == .quoteInQuoted:
                    record.bytes.append(byte)
                    state = .quoted
                default:
                    if state == .quoteInQuoted {
                        throw CohortError(.invalid, "line \(line), column \(record.ends.count + 1): text after a closing quote; a quote inside a quoted field is written twice")
                    }
                    if record.ends.isEmpty && record.bytes.isEmpty { record.line = line }
                    record.bytes.append(byte)
                    if record.bytes.count > Self.longestRecord {
                        throw CohortError(.invalid, "line \(record.line) is longer than \(Self.longestRecord >> 20) MiB")
                    }
                    state = .plain
                    afterCR = false
                }
            }
        }
        if state == .quoted { throw CohortError(.invalid, "line \(record.line): a quote that opens there is never closed") }
        if !record.bytes.isEmpty || !record.ends.isEmpty || state == .quoteInQuoted { _ = try end() }
    }
}
