import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Reads a CSV file record by record, in chunks: memory stays flat however large the file is.
struct CSVReader {
    private static let chunk = 1 << 22
    /// Delimiters that are told by looking.
    private static let delimiters: [UInt8] = [UInt8(ascii: ","), UInt8(ascii: ";"), 0x09, UInt8(ascii: "|")]

    let path: String
    let delimiter: UInt8

    init(path: String, delimiter: UInt8) {
        self.path = path
        self.delimiter = delimiter
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
        let file = try Self.open(path)
        defer { close(file) }
        let batches = CSVBatches(delimiter: delimiter, capacity: Self.chunk)
        try batches.forEach(from: { try Self.read(file, path, into: $0) }, body)
    }

    /// Tells the delimiter from the first lines: the one of `,` `;` tab `|` by which most of them have equally many fields.
    /// - Throws: ``CohortError`` `invalid` for an empty file and for one that is not text in UTF-8.
    static func sniffDelimiter(path: String) throws -> UInt8 {
        let head = try head(path)
        guard !head.isEmpty else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        if head.starts(with: [0xff, 0xfe]) || head.starts(with: [0xfe, 0xff]) {
            throw CohortError(.invalid, "the file is UTF-16: save it as CSV in UTF-8")
        }
        if head.starts(with: [0x50, 0x4b, 3, 4]) || head.starts(with: [0x1f, 0x8b]) || head.starts(with: [0xd0, 0xcf, 0x11, 0xe0]) {
            throw CohortError(.invalid, "the file is a compressed file or a spreadsheet: save it as CSV in UTF-8")
        }
        if let zero = head.firstIndex(of: 0) {
            let line = head[..<zero].count(where: { $0 == 0x0a }) + 1
            throw CohortError(.invalid, "line \(line): a zero byte; this is not a CSV in UTF-8")
        }
        let scores = delimiters.map { score(head, $0) }
        let best = scores.indices.reduce(0) { scores[$0] < scores[$1] ? $1 : $0 }
        return delimiters[best]
    }

    /// The share of records with the most common number of fields, and that number; (0, 0) when it is 1.
    private static func score(_ head: [UInt8], _ delimiter: UInt8) -> (share: Double, fields: Int) {
        var counts: [Int: Int] = [:]
        var records = 0
        var parser = CSVParser(delimiter: delimiter)
        let count = { (record: CSVRecord) in
            counts[record.count, default: 0] += 1
            records += 1
        }
        // What is wrong with the text is said when it is read in earnest, with the right delimiter.
        let isWhole = head.count < headBytes
        try? head.withUnsafeBufferPointer { head in
            var rest = head[...]
            while !rest.isEmpty, records < 200 {
                rest = rest.dropFirst(try parser.feed(UnsafeBufferPointer(rebasing: rest)))
                parser.withRecord(count)
            }
            guard isWhole || records == 0 else { return }
            try parser.finish()
            parser.withRecord(count)
        }
        guard let mode = counts.max(by: { ($0.value, $0.key) < ($1.value, $1.key) }), mode.key > 1 else { return (0, 0) }
        return (Double(mode.value) / Double(records), mode.key)
    }

    private static let headBytes = 1 << 16

    private static func head(_ path: String) throws -> [UInt8] {
        let file = try open(path)
        defer { close(file) }
        var head = [UInt8](repeating: 0, count: headBytes)
        var filled = 0
        while filled < head.count {
            let count = try head.withUnsafeMutableBytes { head in
                try read(file, path, into: UnsafeMutableRawBufferPointer(rebasing: head[filled...]))
            }
            if count == 0 { break }
            filled += count
        }
        head.removeSubrange(filled...)
        return head
    }

    private static func open(_ path: String) throws -> Int32 {
        #if canImport(Glibc)
            let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        #else
            let file = Darwin.open(path, O_RDONLY | O_CLOEXEC)
        #endif
        guard file >= 0 else { throw unreadable(path) }
        return file
    }

    /// - Returns: how many bytes; 0 at the end of the file.
    private static func read(_ file: Int32, _ path: String, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            #if canImport(Glibc)
                let count = Glibc.read(file, buffer.baseAddress, buffer.count)
            #else
                let count = Darwin.read(file, buffer.baseAddress, buffer.count)
            #endif
            if count >= 0 { return count }
            if errno != EINTR { throw unreadable(path) }
        }
    }

    private static func unreadable(_ path: String) -> CohortError {
        CohortError(errno == ENOENT ? .notFound : .invalid, "\(path) cannot be read: \(String(cString: strerror(errno)))")
    }
}
