import CKernels
import CohortCore

/// The format of a CSV file: its delimiter and its text encoding.
struct CSVFormat: Hashable {
    /// Delimiters that are recognized; otherwise one space or more.
    private static let delimiters: [UInt8] = [UInt8(ascii: ","), UInt8(ascii: ";"), 0x09, UInt8(ascii: "|")]
    private static let space = UInt8(ascii: " ")
    private static let headBytes = 1 << 16

    /// The file's delimiter; a space means one or more.
    var delimiter: UInt8
    /// nil: UTF-8.
    var encoding: TextEncoding?
    /// The first text that is no UTF-8, and its line, where that is why it is read otherwise.
    var notUTF8: (text: String, line: Int)?

    /// Zeros at the end of the file, which are left out.
    var zerosAtEnd = 0

    var isSpaced: Bool { delimiter == Self.space }
    /// The delimiter for the parser.
    var separator: UInt8 { isSpaced ? 0x09 : delimiter }

    init(delimiter: UInt8, encoding: TextEncoding? = nil) {
        self.delimiter = delimiter
        self.encoding = encoding
    }

    /// - Throws: ``CohortError`` `invalid` for a schema whose delimiter is no byte.
    init(_ schema: TableSchema) throws {
        guard let delimiter = schema.delimiter.utf8.first else { throw CohortError(.invalid, "the schema has no delimiter") }
        self.init(delimiter: delimiter, encoding: schema.encoding)
    }

    static func == (a: CSVFormat, b: CSVFormat) -> Bool { a.delimiter == b.delimiter && a.encoding == b.encoding }

    func hash(into hasher: inout Hasher) {
        hasher.combine(delimiter)
        hasher.combine(encoding)
    }

    /// Inspects the file: its byte order mark, whether it is UTF-8, and the delimiter by which most of its first lines have equally
    /// many fields.
    /// - Throws: ``CohortError`` `invalid` for an empty file and for one that is no text.
    init(of path: String) throws {
        let head = try Self.head(path, CSVFormat(delimiter: 0x2c))
        guard !head.isEmpty else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        // Of what is packed, gzip and ZIP are unpacked before this: see CohortSystem's Unpacker.
        let packed: [[UInt8]] = [
            [0x50, 0x4b, 3, 4], [0x1f, 0x8b], [0xd0, 0xcf, 0x11, 0xe0], Array("BZh".utf8), [0xfd] + Array("7zXZ".utf8),
            [0x28, 0xb5, 0x2f, 0xfd], Array("7z".utf8) + [0xbc, 0xaf], Array("Rar!".utf8),
        ]
        guard !packed.contains(where: head.starts) else {
            throw CohortError(.invalid, "the file is a spreadsheet, or packed in another way than gzip and ZIP: save it as CSV in UTF-8")
        }
        if head.starts(with: [0x93] + Array("NUMPY".utf8)) {
            throw CohortError(
                .invalid,
                "the file is an array of NumPy's: `cohort train x.npy --targets y.npy` takes two, and elsewhere a .safetensors with both is needed"
            )
        }
        self.init(delimiter: 0x2c)
        if TensorFile.isOne(head) {
            _ = try TensorFile(path: path)
            encoding = .safetensors
            return
        }
        if head.starts(with: [0xff, 0xfe]) {
            encoding = .utf16le
        } else if head.starts(with: [0xfe, 0xff]) {
            encoding = .utf16be
        } else {
            if let zero = head.firstIndex(of: 0) {
                let line = head[..<zero].count(where: { $0 == 0x0a }) + 1
                throw CohortError(.invalid, "line \(line): a zero byte; this is not a CSV in UTF-8")
            }
            zerosAtEnd = try ByteSource(path: path, format: CSVFormat(delimiter: 0x2c)).zerosAtEnd
            notUTF8 = try Self.firstNotUTF8(path)
            if notUTF8 != nil { encoding = .windows1252 }
        }
        let text = try encoding == nil ? head : Self.head(path, self)
        let scores = Self.delimiters.map { Self.score(text, $0) }
        let best = scores.indices.reduce(0) { scores[$0] < scores[$1] ? $1 : $0 }
        delimiter = Self.delimiters[best]
        guard scores[best] < (0.5, 0) else { return }
        var filter = SpaceFilter()
        let spaced = Self.score(filter.filter(text, isLast: true), 0x09)
        if spaced.share >= 0.9, spaced > scores[best] { delimiter = Self.space }
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
        // Faults of the text are reported by the full read, with the right delimiter.
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

    private static func head(_ path: String, _ format: CSVFormat) throws -> [UInt8] {
        let source = try ByteSource(path: path, format: format)
        var head = [UInt8](repeating: 0, count: headBytes)
        var filled = 0
        while filled < head.count {
            let count = try head.withUnsafeMutableBytes { head in
                try source.read(into: UnsafeMutableRawBufferPointer(rebasing: head[filled...]))
            }
            if count == 0 { break }
            filled += count
        }
        head.removeSubrange(filled...)
        return head
    }

    /// nil when the whole file is UTF-8.
    private static func firstNotUTF8(_ path: String) throws -> (text: String, line: Int)? {
        let source = try ByteSource(path: path, format: CSVFormat(delimiter: 0x2c))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        var kept = 0
        var line = 1
        while true {
            let count = try source.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[kept...]))
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<(kept + count)]).assumingMemoryBound(to: UInt8.self)
            let good = cohort_utf8_prefix(bytes.baseAddress, bytes.count)
            if bytes.count - good >= 4 || (count == 0 && good < bytes.count) {
                line += bytes[..<good].count { $0 == 0x0a }
                let isEnd = { (byte: UInt8) in byte < 0x20 || byte == 0x2c || byte == 0x3b || byte == 0x22 }
                let start = bytes[..<good].suffix(24).lastIndex(where: isEnd).map { $0 + 1 } ?? max(0, good - 24)
                let end = bytes[good...].prefix(24).firstIndex(where: isEnd) ?? min(bytes.count, good + 24)
                var transcoder = Transcoder(.windows1252)
                let text = transcoder.convert(Array(bytes[start..<end]), isLast: true)
                return (String(decoding: text, as: UTF8.self), line)
            }
            guard count > 0 else { return nil }
            line += bytes[..<good].count { $0 == 0x0a }
            kept = bytes.count - good
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[good..<(good + kept)]))
        }
    }
}
