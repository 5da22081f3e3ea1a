/// What goes between coordinator and peers every round: the model's parameters, and behind them what the optimizer remembers, where that is averaged
/// as well, or SCAFFOLD's variate. One flat vector, in the order of ``tensors``.
public struct WeightsLayout: Hashable, Sendable {
    public var model: ModelSpec
    /// Of ``OptimizerSpec/streamNames``, or ``controlVariate``: each has a number a parameter.
    public var streams: [String]

    /// The stream of SCAFFOLD's variates: a mean gradient of each parameter.
    public static let controlVariate = "control_variate"

    public init(_ model: ModelSpec, streams: [String] = []) {
        self.model = model
        self.streams = streams
    }

    /// The model's, then each stream's, which are called `STREAM/NAME`.
    public var tensors: [TensorSpec] {
        let own = model.tensors
        return own + streams.flatMap { stream in own.map { TensorSpec(name: "\(stream)/\($0.name)", shape: $0.shape) } }
    }

    /// Floats in the vector.
    public var count: Int { model.parameterCount * (1 + streams.count) }

    /// The model's parameters in the vector.
    public func parameters(of values: [Float]) -> [Float] { streams.isEmpty ? values : Array(values.prefix(model.parameterCount)) }

    /// What an optimizer remembers, in the vector.
    /// - Parameter steps: that it has made.
    /// - Returns: nil where there is nothing to go on from.
    public func optimizerState(of values: [Float], _ optimizer: OptimizerSpec, steps: Int) -> OptimizerState? {
        let count = model.parameterCount
        guard steps > 0, !streams.isEmpty, values.count == self.count, Set(streams) == Set(optimizer.streamNames) else { return nil }
        let parts = streams.enumerated().map { ($1, Array(values[((1 + $0) * count)..<((2 + $0) * count)])) }
        return OptimizerState(optimizer: optimizer, steps: steps, streams: Dictionary(parts) { first, _ in first })
    }

    /// SCAFFOLD's variate in the vector; nil: it has none.
    public func controlVariate(of values: [Float]) -> [Float]? {
        streams == [Self.controlVariate] && values.count == count ? Array(values.suffix(model.parameterCount)) : nil
    }

    /// The vector of a model and what its optimizer remembers; a stream that it has not is zeros.
    public func values(_ parameters: [Float], _ state: OptimizerState?) -> [Float] {
        streams.reduce(into: parameters) { values, stream in
            values += state?.streams[stream] ?? [Float](repeating: 0, count: model.parameterCount)
        }
    }
}

extension OptimizerMemory {
    /// Up to so many parameters what the optimizer remembers is averaged unless something else is said: 8 MB of weights, 24 with Adam's moments.
    public static let averagedParameters = 2 << 20

    /// What holds for a model when nothing is said.
    public static func standard(for model: ModelSpec) -> OptimizerMemory { model.parameterCount <= averagedParameters ? .average : .keep }
}
