/// A data set as the engines read it: features and targets in memory, made once, shared without a copy. It may be mapped from a
/// file.
public final class FeatureTable: @unchecked Sendable {
    // @unchecked: the memory is written before `init` and never after it; `release` runs once, in `deinit`.

    /// `rowCount` × `featureCount`, row-major.
    public let features: UnsafePointer<Float>
    /// `rowCount` values: the class index, or the standardized number for regression ((y − mean) / std of the training rows).
    public let targets: UnsafePointer<Float>
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
        features: UnsafePointer<Float>, targets: UnsafePointer<Float>, rowCount: Int, featureCount: Int, trainingRows: [UInt32],
        validationRows: [UInt32], file: File? = nil, willNeed: @escaping @Sendable (Range<Int>) -> Void = { _ in },
        release: @escaping @Sendable () -> Void
    ) {
        self.features = features
        self.targets = targets
        self.rowCount = rowCount
        self.featureCount = featureCount
        self.trainingRows = trainingRows
        self.validationRows = validationRows
        self.file = file
        self.willNeed = willNeed
        self.release = release
    }

    /// An open file that a table is mapped from. It stays open as long as the table is there.
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
            features: start, targets: start + features.count, rowCount: targets.count, featureCount: featureCount,
            trainingRows: Array(0..<UInt32(targets.count)), validationRows: [], release: { memory.deallocate() })
    }

    deinit { release() }

    /// Bytes of features and targets.
    public var byteCount: Int { rowCount * (featureCount + 1) * MemoryLayout<Float>.stride }
}
