/// What a pass over the rows depends on, beside the rows and the weights: one value, the same for every engine.
public struct TrainingOptions: Codable, Hashable, Sendable {
    /// Another one than in the pass before starts with no memory of its own.
    public var optimizer: OptimizerSpec
    /// Rows a step; the last step of a pass may have fewer.
    public var batchSize: Int
    public var learningRate: Double
    /// One a class, each above 0: trains on the weighted mean of the losses, Σ w·loss / Σ w, as PyTorch's `CrossEntropyLoss(weight:)` does;
    /// nil: the mean.
    public var classWeights: [Double]?
    /// What dropout's masks are drawn from, one after the other since the weights were loaded.
    public var dropoutSeed: UInt64

    public init(
        optimizer: OptimizerSpec = OptimizerSpec(), batchSize: Int = 32, learningRate: Double = 0.001, classWeights: [Double]? = nil,
        dropoutSeed: UInt64 = 0
    ) {
        self.optimizer = optimizer
        self.batchSize = batchSize
        self.learningRate = learningRate
        self.classWeights = classWeights
        self.dropoutSeed = dropoutSeed
    }
}
