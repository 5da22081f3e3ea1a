public import CohortCore

/// Trains on the CPU: our own kernels, and BLAS for large products.
public struct NativeEngine: TrainingEngine {
    public let name = "native"
    public let device = "cpu"
    public let readsPackedRows = true
    private let threads: Int

    /// - Parameter threads: that a model's large products and updates are shared out among. The bits are the same whatever their number.
    public init(threads: Int) { self.threads = max(1, threads) }

    public var notes: [String] { BLAS.note.map { [$0] } ?? [] }

    public func prepare(_ table: FeatureTable) throws -> any PreparedTable { table }

    public func makeModel(_ spec: ModelSpec, module: [UInt8]?) throws -> any TrainableModel {
        guard spec.module == nil, module == nil else {
            throw CohortError(.invalid, "the native engine trains no modules of your own: a peer with --engine torch does")
        }
        return try SimpleDNN(spec, threads: threads)
    }
}
