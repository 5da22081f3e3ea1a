import CKernels
public import CohortCore

/// How a session's rows are packed: the layout, its dictionary, and which code each value has.
///
/// Of the encodings that a column can have, it gets the one with the fewest bytes in all, vectors included.
public struct RecordPlan: Sendable {
    public let layout: RecordLayout
    public let dictionary: [Float]
    /// Of each column of the schema.
    let codes: [Codes]

    enum Codes: Sendable {
        /// The column is no feature, a constant, or its features stand in the record.
        case none
        /// Of the bits of a number's feature.
        case numbers(CodeTable)
        /// And of a date that is missing.
        case dates([CalendarDate: UInt16], missing: UInt16)
        case oneHot
    }

    /// - Parameter values: of the file that the schema was made from.
    public init(_ schema: TableSchema, _ values: ColumnValues) {
        let rows = schema.trainingRows + schema.validationRows
        var columns: [RecordLayout.Column] = []
        var dictionary: [Float] = []
        var codes: [Codes] = []
        var offset = 0
        for (index, column) in schema.columns.enumerated() {
            let features = column.featureCount
            guard features > 0 else {
                codes.append(.none)
                continue
            }
            var packed = RecordLayout.Column(name: column.name, encoding: .f32, offset: offset, features: features)
            let (vectors, found) = Self.vectors(column, index, values)
            packed.encoding = Self.encoding(
                vectors: vectors.map { $0.count / features } ?? (column.kind == .categorical ? features + 1 : nil),
                isOneHot: column.kind == .categorical, features: features, rows: rows,
                floatsLeft: RecordLayout.maxDictionaryFloats - dictionary.count)
            if packed.encoding != .f32, let vectors {
                packed.vectors = RecordLayout.Vectors(start: dictionary.count, count: vectors.count / features)
                dictionary += vectors
            }
            codes.append([.f32, .constant].contains(packed.encoding) ? .none : found)
            columns.append(packed)
            offset += packed.bytes
        }
        let target: RecordLayout.Encoding =
            schema.task == .regression ? .f32 : schema.classes.count <= RecordLayout.Encoding.u8.maxCodes ? .u8 : .u16
        layout = RecordLayout(columns: columns, target: target, targetOffset: offset, recordBytes: offset + target.bytes(features: 1))
        self.dictionary = dictionary
        self.codes = codes
    }

    /// - Parameters:
    ///   - vectors: different ones; nil: too many.
    ///   - isOneHot: they need no place in the dictionary.
    private static func encoding(vectors: Int?, isOneHot: Bool, features: Int, rows: Int, floatsLeft: Int) -> RecordLayout.Encoding {
        guard let vectors else { return .f32 }
        if vectors == 1 { return .constant }
        let floats = isOneHot ? 0 : vectors * features
        guard floats <= floatsLeft else { return .f32 }
        return [RecordLayout.Encoding.u8, .u16].filter { vectors <= $0.maxCodes }
            .map { (encoding: $0, bytes: $0.bytes(features: features) * rows + 4 * floats) }
            .filter { $0.bytes < 4 * features * rows }
            .min { $0.bytes < $1.bytes }?.encoding ?? .f32
    }

    /// A column's different vectors, one behind the other, and their codes; nil where they are too many, or categories.
    private static func vectors(_ column: TableSchema.Column, _ index: Int, _ values: ColumnValues) -> ([Float]?, Codes) {
        switch column.kind {
        case .numeric:
            guard let numbers = values.numbers[index] else { return (nil, .none) }
            var bits = Set(numbers.map { Float(($0 - column.offset) / column.divisor).bitPattern })
            if values.hasMissing[index] { bits.insert(column.missingFeature.bitPattern) }
            let features = bits.map { Float(bitPattern: $0) }.sorted { ($0, $0.bitPattern) < ($1, $1.bitPattern) }
            guard !features.isEmpty, features.count <= RecordLayout.Encoding.u16.maxCodes, features.allSatisfy(\.isFinite) else {
                return (nil, .none)
            }
            return (features, .numbers(CodeTable(features)))
        case .date:
            guard let dates = values.dates[index], let parts = column.parts else { return (nil, .none) }
            let sorted = dates.sorted { $0.order < $1.order }
            guard sorted.count < RecordLayout.Encoding.u16.maxCodes else { return (nil, .none) }
            var vectors = sorted.flatMap { date in parts.map(date.feature) }
            let missing = sorted.count
            vectors += [Float](repeating: 0, count: parts.count)
            return (
                vectors, .dates(Dictionary(uniqueKeysWithValues: sorted.enumerated().map { ($1, UInt16($0)) }), missing: UInt16(missing))
            )
        case .categorical: return (nil, .oneHot)
        case .ignored, .target: return (nil, .none)
        }
    }
}

/// The codes of features: the place of each in a list.
final class CodeTable: @unchecked Sendable {
    // @unchecked: the memory is written in `init` alone.
    private let keys: UnsafeMutableBufferPointer<UInt32>
    private let codes: UnsafeMutableBufferPointer<UInt16>
    /// Valid as long as this object.
    let table: cohort_code_table

    /// - Parameter features: different ones, at most 65,536, none of them NaN.
    init(_ features: [Float]) {
        var bits: UInt32 = 1
        while 1 << bits < features.count * 2 { bits += 1 }
        keys = .allocate(capacity: 1 << bits)
        codes = .allocate(capacity: 1 << bits)
        keys.initialize(repeating: .max)
        codes.initialize(repeating: 0)
        for (code, feature) in features.enumerated() {
            var slot = Int(cohort_code_slot(feature.bitPattern, 32 - bits))
            while keys[slot] != .max { slot = (slot + 1) & (keys.count - 1) }
            keys[slot] = feature.bitPattern
            codes[slot] = UInt16(code)
        }
        table = cohort_code_table(keys: keys.baseAddress, codes: codes.baseAddress, shift: 32 - bits)
    }

    deinit {
        keys.deallocate()
        codes.deallocate()
    }
}

/// Tables of columns that follow one another.
final class CodeTables: @unchecked Sendable {
    // @unchecked: the memory is written in `init` alone.
    private let kept: [CodeTable]
    private let tables: UnsafeMutableBufferPointer<cohort_code_table>

    init(_ kept: [CodeTable]) {
        self.kept = kept
        tables = .allocate(capacity: kept.count)
        _ = tables.initialize(from: kept.map(\.table))
    }

    deinit { tables.deallocate() }

    /// Writes the code of each feature, in 1 or 2 bytes.
    /// - Returns: the place of a feature that has none; nil: all have one.
    func write(codesOf features: UnsafePointer<Float>, to bytes: UnsafeMutableRawPointer, width: Int) -> Int? {
        let found = cohort_find_codes(features, tables.count, tables.baseAddress, bytes, width)
        return found < tables.count ? found : nil
    }
}

extension CalendarDate {
    fileprivate var order: (Int, Int, Int, Int, Int) { (year, month, day, hour, minute) }
}
