/// A training engine: the native CPU engine, or PyTorch.
public protocol TrainingEngine: Sendable {
    /// `native`, `torch`.
    var name: String { get }
    /// `cpu`, `cuda:0`.
    var device: String { get }

    /// Notes for users: the libraries and devices that were found and chosen. May grow as models are made.
    var notes: [String] { get }

    /// It trains custom modules.
    var runsModules: Bool { get }

    /// It reads packed rows as they are; others get floats.
    var readsPackedRows: Bool { get }

    /// Prepares a table for this engine's models, once for all passes over it. Released with its last reference.
    func prepare(_ table: FeatureTable) throws -> any PreparedTable

    /// A model with all buffers that it needs; its weights are to be loaded. Of a module they are those that it was saved with.
    /// - Parameter module: the file of ``ModelSpec/module``. Its code runs when it trains, evaluates and predicts.
    /// - Throws: ``CohortError`` `invalid` for an invalid spec, for a module that differs from the spec, and from engines that
    ///   train no modules.
    func makeModel(_ spec: ModelSpec, module: [UInt8]?) throws -> any TrainableModel
}

extension TrainingEngine {
    public func makeModel(_ spec: ModelSpec) throws -> any TrainableModel { try makeModel(spec, module: nil) }
}

extension TrainingEngine {
    public var notes: [String] { [] }
    public var runsModules: Bool { false }
    public var readsPackedRows: Bool { false }
}

/// A table where an engine wants it: in memory, or on a device.
public protocol PreparedTable: AnyObject, Sendable {
    /// Its rows, for those who deal them out.
    var table: FeatureTable { get }
}

/// Prepared for an engine that reads the table directly.
extension FeatureTable: PreparedTable {
    public var table: FeatureTable { self }
}

/// A model and its optimizer's state, with every buffer it needs. It belongs to one thread at a time and blocks it while it works:
/// never call it on Swift's cooperative pool.
public protocol TrainableModel: AnyObject {
    var spec: ModelSpec { get }

    /// The flat parameter vector in the order of ``ModelSpec/tensors``.
    func parameters() throws -> [Float]

    /// Replaces the weights; the random stream of dropout's masks starts again, and so does the optimizer unless it is kept.
    /// - Throws: ``CohortError`` `invalid` when the count is not the spec's.
    func load(parameters: [Float], keepsOptimizer: Bool) throws

    /// The state of the last pass's optimizer.
    func optimizerState() throws -> OptimizerState

    /// The next pass, if it has this optimizer, goes on from there.
    /// - Throws: ``CohortError`` `invalid` for a state of another shape.
    func load(optimizerState: OptimizerState) throws

    /// Sets a correction: each step also takes w −= lr·correction, apart from the optimizer, until another is loaded; nil: none.
    /// - Throws: ``CohortError`` `invalid` when the count is not the spec's.
    func load(correction: [Float]?) throws

    /// Trains one pass over `rows` (indices into the table) in the order given.
    /// - Parameters:
    ///   - table: prepared by the same engine.
    ///   - shouldContinue: asked before every batch; false ends the pass early.
    /// - Returns: sums over the samples trained on, measured while training (before each batch's update).
    /// - Throws: ``CohortError`` `invalid` for a table of another width, and for options that ``TrainingOptions/check(for:)`` refuses.
    func train(
        on table: any PreparedTable, rows: [UInt32], options: TrainingOptions, shouldContinue: () -> Bool
    ) throws -> Counts

    /// Sums over `rows`, without dropout, without change.
    func evaluate(on table: any PreparedTable, rows: ArraySlice<UInt32>, shouldContinue: () -> Bool) throws -> Counts

    /// Outputs for `rowCount` rows of features (row-major): rows × outputs, class probabilities or standardized numbers.
    func predict(_ features: [Float], rowCount: Int) throws -> [Float]

    /// The model is usable: the separate process of a module may have ended.
    var isUsable: Bool { get }

    /// May be called from any thread: a pass that `shouldContinue` does not end soon, such as that of a module that never ends, ends all the
    /// same, with a `CancellationError`; the model is not usable then.
    var interrupt: @Sendable () -> Void { get }
}

extension TrainableModel {
    public var isUsable: Bool { true }
    public var interrupt: @Sendable () -> Void { {} }

    /// Loads weights for an optimizer without memory.
    public func load(parameters: [Float]) throws { try load(parameters: parameters, keepsOptimizer: false) }
}
