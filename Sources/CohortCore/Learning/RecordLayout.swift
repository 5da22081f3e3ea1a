/// The places of a packed row's values, and the features that they become. Rows are records of ``recordBytes`` bytes that follow one another, all numbers
/// little-endian and unaligned.
///
/// Features come out bit for bit as ``TableSchema`` describes them. Vectors of features stand in a dictionary of 32-bit floats beside the layout.
public struct RecordLayout: Codable, Hashable, Sendable {
    public enum Encoding: String, Codable, CaseIterable, Sendable {
        /// Nothing is in the record: all rows have the one vector.
        case constant
        /// The features as they are, 32-bit floats.
        case f32
        /// A code of one byte: the number of a vector, or with no vectors the feature that is 1.
        case u8
        /// The same in two bytes.
        case u16

        /// Codes that there can be; 0 for encodings without.
        public var maxCodes: Int {
            switch self {
            case .constant, .f32: 0
            case .u8: 1 << 8
            case .u16: 1 << 16
            }
        }
    }

    public struct Column: Codable, Hashable, Sendable {
        public var name: String
        public var encoding: Encoding
        /// The first byte in the record.
        public var offset: Int
        /// The number of features that the column becomes.
        public var features: Int
        /// Vectors of ``features`` floats each. Absent with codes: feature k is 1 for the code k, and none for the code ``features``.
        public var vectors: Vectors?

        public init(name: String, encoding: Encoding, offset: Int, features: Int, vectors: Vectors? = nil) {
            self.name = name
            self.encoding = encoding
            self.offset = offset
            self.features = features
            self.vectors = vectors
        }

        /// Bytes of the column in a record.
        public var bytes: Int { encoding.bytes(features: features) }
        /// Codes below this one are valid; 0 for encodings without codes.
        public var codes: Int { encoding.maxCodes == 0 ? 0 : vectors?.count ?? features + 1 }
        public var isOneHot: Bool { encoding.maxCodes > 0 && vectors == nil }
    }

    public struct Vectors: Codable, Hashable, Sendable {
        /// The first float in the dictionary.
        public var start: Int
        public var count: Int

        public init(start: Int, count: Int) {
            self.start = start
            self.count = count
        }
    }

    /// In the order of the features.
    public var columns: [Column]
    /// The class index as `u8` or `u16`, or as `f32` the standardized number: (y − mean) / std of the training rows.
    public var target: Encoding
    public var targetOffset: Int
    public var recordBytes: Int

    public init(columns: [Column], target: Encoding, targetOffset: Int, recordBytes: Int) {
        self.columns = columns
        self.target = target
        self.targetOffset = targetOffset
        self.recordBytes = recordBytes
    }

    public var featureCount: Int { columns.reduce(0) { $0 + $1.features } }
}

extension RecordLayout.Encoding {
    /// Bytes of a column of so many features.
    public func bytes(features: Int) -> Int {
        switch self {
        case .constant: 0
        case .f32: 4 * features
        case .u8: 1
        case .u16: 2
        }
    }
}

extension RecordLayout {
    /// The largest dictionary, in floats: 64 MiB.
    public static let maxDictionaryFloats = 1 << 24
    /// The largest record, in bytes.
    public static let maxRecordBytes = 1 << 28

    /// Checks a layout that came in a message or a file, before a row is read by it.
    /// - Parameters:
    ///   - dictionary: the number of its floats.
    ///   - outputs: of the model; for classes the number of classes.
    /// - Throws: ``CohortError`` `invalid`, naming the column.
    public func check(dictionary: Int, task: LearningTask, outputs: Int) throws {
        func require(_ holds: Bool, _ what: @autoclosure () -> String) throws {
            if !holds { throw CohortError(.invalid, "the table's layout is invalid: \(what())") }
        }
        try require(1...Self.maxRecordBytes ~= recordBytes, "a record of \(recordBytes) bytes")
        try require(0...Self.maxDictionaryFloats ~= dictionary, "a dictionary of \(dictionary) floats")
        try require(columns.count <= recordBytes + dictionary, "\(columns.count) columns in a record of \(recordBytes) bytes")
        let targetBytes = target.bytes(features: 1)
        try require(
            task == .classification ? target.maxCodes > 0 && outputs <= target.maxCodes : target == .f32,
            "a target as \(target.rawValue) for \(task == .classification ? "\(outputs) classes" : "a quantity")")
        try require(targetOffset >= 0 && targetOffset <= recordBytes - targetBytes, "the target at byte \(targetOffset)")
        var features = 0
        for column in columns {
            let name = "column '\(column.name.prefix(60))'"
            try require(1...Self.maxRecordBytes ~= column.features, "\(name) has \(column.features) features")
            try require(column.encoding != .f32 || column.features <= recordBytes / 4, "\(name) is longer than its record")
            try require(column.offset >= 0 && column.offset <= recordBytes - column.bytes, "\(name) begins at byte \(column.offset)")
            features += column.features
            try require(features <= Self.maxRecordBytes, "\(features) features")
            guard let vectors = column.vectors else {
                try require(column.encoding != .constant, "\(name) is constant and has no vector")
                try require(column.encoding == .f32 || column.codes <= column.encoding.maxCodes, "\(name) has too many codes")
                continue
            }
            let most = column.encoding == .constant ? 1 : column.encoding.maxCodes
            try require(column.encoding != .f32, "\(name) has both numbers and vectors")
            try require(1...most ~= vectors.count, "\(name) has \(vectors.count) vectors")
            let (floats, isOverflow) = vectors.count.multipliedReportingOverflow(by: column.features)
            try require(
                !isOverflow && vectors.start >= 0 && floats <= dictionary && vectors.start <= dictionary - floats,
                "the vectors of \(name) are not in its dictionary")
        }
        try require(features > 0, "it has no features")
    }

    /// Checks rows that came from elsewhere: that no code is outside its table and no number infinite.
    /// - Parameters:
    ///   - records: whole ones.
    ///   - outputs: of the model; for classes the number of classes.
    /// - Throws: ``CohortError`` `invalid`, naming row and column.
    public func check(records: UnsafeRawBufferPointer, outputs: Int) throws {
        guard recordBytes > 0, records.count % recordBytes == 0 else {
            throw CohortError(.invalid, "\(records.count) bytes are not whole records of \(recordBytes) bytes")
        }
        func failure(row: Int, column name: String, has what: String) -> CohortError {
            CohortError(.invalid, "row \(row) of the part: '\(name.prefix(60))' has \(what)")
        }
        let rows = records.count / recordBytes
        let coded = columns.filter { $0.encoding.maxCodes > $0.codes }.map { ($0.name, $0.encoding, $0.offset, $0.codes) }
        let targets = target.maxCodes > outputs ? [("the target", target, targetOffset, outputs)] : []
        for (name, encoding, offset, codes) in coded + targets {
            for row in 0..<rows {
                let place = row * recordBytes + offset
                let code =
                    encoding == .u8
                    ? Int(records[place]) : Int(UInt16(littleEndian: records.loadUnaligned(fromByteOffset: place, as: UInt16.self)))
                guard code < codes else { throw failure(row: row, column: name, has: "the code \(code), there are \(codes)") }
            }
        }
        let numbers = columns.filter { $0.encoding == .f32 }.map { ($0.name, $0.offset, $0.features) }
        for (name, offset, count) in numbers + (target == .f32 ? [("the target", targetOffset, 1)] : []) {
            for row in 0..<rows {
                for index in 0..<count {
                    let value = records.float(at: row * recordBytes + offset + 4 * index)
                    guard value.isFinite else { throw failure(row: row, column: name, has: "a number that is not finite") }
                }
            }
        }
    }
}

/// Packed rows in memory, and what their codes mean.
public struct PackedRows: Sendable {
    /// Read only.
    public nonisolated(unsafe) let base: UnsafeRawPointer
    public let layout: RecordLayout
    public let dictionary: [Float]

    public init(base: UnsafeRawPointer, layout: RecordLayout, dictionary: [Float]) {
        self.base = base
        self.layout = layout
        self.dictionary = dictionary
    }

    /// Writes a row's features.
    public func expand(_ row: Int, into features: UnsafeMutablePointer<Float>) {
        let record = base + row * layout.recordBytes
        var place = features
        for column in layout.columns {
            let values = UnsafeMutableBufferPointer(start: place, count: column.features)
            place += column.features
            if column.encoding == .f32 {
                for index in 0..<column.features { values[index] = record.float(at: column.offset + 4 * index) }
                continue
            }
            let code = record.code(column.encoding, at: column.offset)
            if let vectors = column.vectors {
                let start = vectors.start + code * column.features
                for index in 0..<column.features { values[index] = dictionary[start + index] }
            } else {
                values.update(repeating: 0)
                if code < column.features { values[code] = 1 }
            }
        }
    }

    public func target(of row: Int) -> Float {
        let record = base + row * layout.recordBytes
        return layout.target == .f32 ? record.float(at: layout.targetOffset) : Float(record.code(layout.target, at: layout.targetOffset))
    }
}

extension UnsafeRawPointer {
    fileprivate func float(at offset: Int) -> Float {
        Float(bitPattern: UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    fileprivate func code(_ encoding: RecordLayout.Encoding, at offset: Int) -> Int {
        switch encoding {
        case .constant, .f32: 0
        case .u8: Int(load(fromByteOffset: offset, as: UInt8.self))
        case .u16: Int(UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
        }
    }
}

extension UnsafeRawBufferPointer {
    fileprivate func float(at offset: Int) -> Float {
        Float(bitPattern: UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }
}
