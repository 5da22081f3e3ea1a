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
    /// Says that these rows will be read soon; a table that is mapped from a file starts to read them.
    public let willNeed: @Sendable (Range<Int>) -> Void
    private let release: @Sendable () -> Void

    public init(
        features: UnsafePointer<Float>, targets: UnsafePointer<Float>, rowCount: Int, featureCount: Int, trainingRows: [UInt32],
        validationRows: [UInt32], willNeed: @escaping @Sendable (Range<Int>) -> Void = { _ in },
        release: @escaping @Sendable () -> Void
    ) {
        self.features = features
        self.targets = targets
        self.rowCount = rowCount
        self.featureCount = featureCount
        self.trainingRows = trainingRows
        self.validationRows = validationRows
        self.willNeed = willNeed
        self.release = release
    }

    deinit { release() }

    /// Bytes of features and targets.
    public var byteCount: Int { rowCount * (featureCount + 1) * MemoryLayout<Float>.stride }
}
