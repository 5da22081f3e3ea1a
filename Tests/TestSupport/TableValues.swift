public import CohortCore

extension FeatureTable {
    /// All features, row by row; a copy.
    public var features: [Float] { features(of: 0..<rowCount) }
    /// The target of each row.
    public var targets: [Float] { (0..<rowCount).map(target) }
}
