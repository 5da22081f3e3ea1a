public import FoundationEssentials

/// A packed table without its rows: what they mean, and in which parts they come.
public struct TableManifest: Codable, Hashable, Sendable {
    /// The version that this program writes and reads.
    public static let currentVersion = 1
    /// Bytes of the largest dictionary that stands in the manifest.
    public static let maxInlineDictionary = 4 << 10

    public var version: Int
    public var task: LearningTask
    /// Outputs of a model of the table: the number of classes, or 1.
    public var outputs: Int
    public var layout: RecordLayout
    public var parts: TableParts
    /// The SHA-256 of each part, in hexadecimal.
    public var partSha256: [String]
    /// The number of floats in the dictionary.
    public var dictionaryFloats: Int
    public var dictionarySha256: String
    /// The dictionary, little-endian, where it is small.
    public var dictionary: Data?

    public init(
        task: LearningTask, outputs: Int, layout: RecordLayout, parts: TableParts, partSha256: [String], dictionary: Data,
        dictionarySha256: String
    ) {
        version = Self.currentVersion
        self.task = task
        self.outputs = outputs
        self.layout = layout
        self.parts = parts
        self.partSha256 = partSha256
        dictionaryFloats = dictionary.count / 4
        self.dictionarySha256 = dictionarySha256
        self.dictionary = dictionary.count <= Self.maxInlineDictionary ? dictionary : nil
    }

    /// Checks a manifest that came in a message or a file.
    /// - Throws: ``CohortError`` `invalid`, saying what is wrong with it.
    public func check() throws {
        func require(_ holds: Bool, _ what: @autoclosure () -> String) throws {
            if !holds { throw CohortError(.invalid, "the table's manifest is invalid: \(what())") }
        }
        try require(
            version == Self.currentVersion,
            "it has version \(version), and this program (\(CohortVersion.current)) reads \(Self.currentVersion)")
        try require(1...1 << 24 ~= outputs, "\(outputs) outputs")
        try layout.check(dictionary: dictionaryFloats, task: task, outputs: outputs)
        let rows = 0...Int(UInt32.max)
        try require(rows ~= parts.trainingRows && rows ~= parts.validationRows && 1..<rows.upperBound ~= parts.rows, "its numbers of rows")
        try require(parts.recordBytes == layout.recordBytes, "records of \(parts.recordBytes) and of \(layout.recordBytes) bytes")
        try require(
            1...TableParts.maxPartBytes / layout.recordBytes + 1 ~= parts.rowsPerPart, "parts of \(parts.rowsPerPart) rows")
        try require(partSha256.count == parts.count, "\(partSha256.count) hashes of \(parts.count) parts")
        try require((partSha256 + [dictionarySha256]).allSatisfy(\.isSHA256), "a hash that is no SHA-256 in hexadecimal")
        try require(dictionary.map { $0.count == 4 * dictionaryFloats } ?? true, "a dictionary of \(dictionary?.count ?? 0) bytes")
    }

    /// - Throws: ``CohortError`` `invalid` for another number of bytes than the manifest says.
    public func floats(ofDictionary bytes: some Collection<UInt8>) throws -> [Float] {
        guard bytes.count == 4 * dictionaryFloats else {
            throw CohortError(.invalid, "the table's dictionary has \(bytes.count) bytes, not \(4 * dictionaryFloats)")
        }
        return Array(bytes).withUnsafeBytes { bytes in
            (0..<dictionaryFloats).map {
                Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
    }
}

extension String {
    /// 64 lowercase hexadecimal digits.
    public var isSHA256: Bool { utf8.count == 64 && utf8.allSatisfy { 48...57 ~= $0 || 97...102 ~= $0 } }
}
