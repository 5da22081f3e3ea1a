/// A data set as the engines read it: features and targets in memory, made once, shared without a copy. It may be mapped from a
/// file.
public final class FeatureTable: @unchecked Sendable {
    // @unchecked: the memory is written before `init` and never after it; `release` runs once, in `deinit`.

    /// The form of the rows in memory.
    public enum Rows {
        /// Features, `rowCount` × `featureCount`, row-major; and `rowCount` targets: the class index, or the standardized number for
        /// regression ((y − mean) / std of the training rows).
        case dense(features: UnsafePointer<Float>, targets: UnsafePointer<Float>)
        case packed(PackedRows)
    }

    public let rows: Rows
    public let rowCount: Int
    public let featureCount: Int
    /// Rows to train on, ascending.
    public let trainingRows: [UInt32]
    /// Rows held out for validation, ascending.
    public let validationRows: [UInt32]
    /// The file that holds the same bytes, for another process; nil: they are in memory alone.
    public let file: File?
    /// Says that these rows will be read soon; a table that is mapped from a file starts to read them.
    public let willNeed: @Sendable (Range<Int>) -> Void
    private let release: @Sendable () -> Void

    public init(
        _ rows: Rows, rowCount: Int, featureCount: Int, trainingRows: [UInt32], validationRows: [UInt32], file: File? = nil,
        willNeed: @escaping @Sendable (Range<Int>) -> Void = { _ in }, release: @escaping @Sendable () -> Void
    ) {
        self.rows = rows
        self.rowCount = rowCount
        self.featureCount = featureCount
        self.trainingRows = trainingRows
        self.validationRows = validationRows
        self.file = file
        self.willNeed = willNeed
        self.release = release
    }

    /// An open file that a dense table is mapped from. It stays open as long as the table is there.
    public struct File: Hashable, Sendable {
        public var descriptor: Int32
        /// The size of the file.
        public var bytes: Int
        /// The offset of features and targets.
        public var featuresStart: Int
        public var targetsStart: Int

        public init(descriptor: Int32, bytes: Int, featuresStart: Int, targetsStart: Int) {
            self.descriptor = descriptor
            self.bytes = bytes
            self.featuresStart = featuresStart
            self.targetsStart = targetsStart
        }
    }

    /// Creates a table in memory, with all rows for training.
    /// - Parameters:
    ///   - features: rows × `featureCount`, row-major.
    ///   - targets: one a row.
    public convenience init(features: [Float], targets: [Float], featureCount: Int) {
        precondition(features.count == targets.count * featureCount, "a row has featureCount features and one target")
        let start = UnsafeMutablePointer<Float>.allocate(capacity: max(features.count + targets.count, 1))
        start.initialize(from: features, count: features.count)
        (start + features.count).initialize(from: targets, count: targets.count)
        nonisolated(unsafe) let memory = start  // Given back once, when the table goes; read until then.
        self.init(
            .dense(features: start, targets: start + features.count), rowCount: targets.count, featureCount: featureCount,
            trainingRows: Array(0..<UInt32(targets.count)), validationRows: [], release: { memory.deallocate() })
    }

    deinit { release() }

    /// Bytes of a row in memory.
    public var rowBytes: Int {
        switch rows {
        case .dense: (featureCount + 1) * MemoryLayout<Float>.stride
        case .packed(let packed): packed.layout.recordBytes
        }
    }

    /// Bytes of all rows.
    public var byteCount: Int { rowCount * rowBytes }

    /// The features of these rows, one row after the other.
    public func features(of range: Range<Int>) -> [Float] {
        precondition(range.lowerBound >= 0 && range.upperBound <= rowCount, "rows \(range) of \(rowCount)")
        switch rows {
        case .dense(let features, _):
            return Array(UnsafeBufferPointer(start: features + range.lowerBound * featureCount, count: range.count * featureCount))
        case .packed(let packed):
            return Array(unsafeUninitializedCapacity: range.count * featureCount) { values, count in
                if let start = values.baseAddress {
                    for (place, row) in range.enumerated() { packed.expand(row, into: start + place * featureCount) }
                }
                count = range.count * featureCount
            }
        }
    }

    public func target(of row: Int) -> Float {
        precondition(0..<rowCount ~= row, "row \(row) of \(rowCount)")
        switch rows {
        case .dense(_, let targets): return targets[row]
        case .packed(let packed): return packed.target(of: row)
        }
    }

    /// The same rows, dense: itself, or a copy in memory.
    public func dense() -> FeatureTable {
        guard case .packed(let packed) = rows else { return self }
        let start = UnsafeMutablePointer<Float>.allocate(capacity: max(rowCount * (featureCount + 1), 1))
        let targets = start + rowCount * featureCount
        for row in 0..<rowCount {
            packed.expand(row, into: start + row * featureCount)
            targets[row] = packed.target(of: row)
        }
        nonisolated(unsafe) let memory = start  // Given back once, when the table goes; read until then.
        return FeatureTable(
            .dense(features: start, targets: targets), rowCount: rowCount, featureCount: featureCount, trainingRows: trainingRows,
            validationRows: validationRows, release: { memory.deallocate() })
    }
}
