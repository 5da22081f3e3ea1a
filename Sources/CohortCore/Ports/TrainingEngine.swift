/// What trains: the native CPU engine, or PyTorch.
public protocol TrainingEngine: Sendable {
    /// `native`, `torch`.
    var name: String { get }
    /// `cpu`, `cuda:0`.
    var device: String { get }

    /// How it computes, for people: what was found on this machine and chosen. May grow as models are made.
    var notes: [String] { get }

    /// A model with weights drawn from `seed`, its optimizer at step 0.
    func makeModel(_ spec: ModelSpec, optimizer: OptimizerSpec, seed: UInt64) throws -> any TrainableModel
}

extension TrainingEngine {
    public var notes: [String] { [] }
}

/// A model and its optimizer's state, with every buffer it needs. It belongs to one thread at a time and blocks it while it works:
/// never call it on Swift's cooperative pool.
public protocol TrainableModel: AnyObject {
    var spec: ModelSpec { get }

    /// The flat parameter vector in the order of ``ModelSpec/tensors``.
    var parameters: [Float] { get }

    /// Replaces the weights; the optimizer starts anew.
    /// - Throws: ``CohortError`` `invalid` when the count is not the spec's.
    func load(parameters: [Float]) throws

    /// Restarts the stream that dropout draws its masks from: at the start of each round, with the command's seed.
    func reseed(_ seed: UInt64)

    /// From now on trains on the weighted mean of the losses, Σ w·loss / Σ w, as PyTorch's `CrossEntropyLoss(weight:)` does; nil: the mean.
    /// - Parameter weights: one a class, each above 0.
    /// - Throws: ``CohortError`` `invalid` when there are not as many as outputs, or one is not above 0.
    func weigh(classes weights: [Double]?) throws

    /// Trains one pass over `rows` (indices into `table`) in the order given, in batches of `batchSize`, the last may be smaller.
    /// - Parameter shouldContinue: asked before every batch; false ends the pass early.
    /// - Returns: sums over the samples trained on, measured while training (before each batch's update).
    func train(
        on table: FeatureTable, rows: [UInt32], batchSize: Int, learningRate: Double, shouldContinue: () -> Bool
    ) throws -> Counts

    /// Sums over `rows`, without dropout, without change.
    func evaluate(on table: FeatureTable, rows: ArraySlice<UInt32>, shouldContinue: () -> Bool) throws -> Counts

    /// Outputs for `rowCount` rows of features (row-major): rows × outputs, class probabilities or standardized numbers.
    func predict(_ features: [Float], rowCount: Int) throws -> [Float]
}
