/// The layout of the vector that coordinator and peers exchange every round: the model's parameters, followed by optimizer state, where that is averaged
/// as well, or by SCAFFOLD's variate. One flat vector, in the order of ``tensors``.
public struct WeightsLayout: Hashable, Sendable {
    public var model: ModelSpec
    /// Names of ``OptimizerSpec/streamNames``, or ``controlVariate``: each has one number per parameter.
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

    /// Reads the optimizer state from the vector.
    /// - Parameters:
    ///   - steps: that it has made.
    ///   - own: what this machine's optimizer remembers, which stays where the vector says nothing; nil: nothing.
    /// - Returns: nil where there is nothing to go on from: a part of what is remembered is no use without the rest.
    public func optimizerState(
        of values: [Float], _ optimizer: OptimizerSpec, steps: Int, own: OptimizerState? = nil
    ) -> OptimizerState? {
        let count = model.parameterCount
        let names = Set(optimizer.streamNames)
        guard !streams.isEmpty, values.count == self.count, names.isSuperset(of: streams) else { return nil }
        let parts = streams.enumerated().map { ($1, Array(values[((1 + $0) * count)..<((2 + $0) * count)])) }
        var state = OptimizerState(optimizer: optimizer, steps: steps, streams: Dictionary(parts) { first, _ in first })
        if let own, own.steps > 0, Set(own.streams.keys) == names {
            state.steps = own.steps
            state.streams.merge(own.streams) { averaged, _ in averaged }
            // Where this machine's rows had next to no gradient and the others' had, √v would be next to nothing under their mean, and a step without
            // bound. Where the mean is more than this machine's own, squares become at least its square, both as Adam corrects them for how few steps
            // there were.
            if !streams.contains("exp_avg_sq"), let mean = state.streams["exp_avg"], let before = own.streams["exp_avg"],
                let squares = own.streams["exp_avg_sq"]
            {
                let (first, second) = (1 - optimizer.beta1.power(own.steps), 1 - optimizer.beta2.power(own.steps))
                let least = Float(second / (first * first))
                state.streams["exp_avg_sq"] = squares.indices.map { index in
                    abs(mean[index]) > abs(before[index]) ? max(squares[index], least * mean[index] * mean[index]) : squares[index]
                }
            }
        }
        return state.steps > 0 && state.streams.count == names.count ? state : nil
    }

    /// Limits averaged first moments to what Adam's second moments allow: |m| ≤ C·√v with C = (1 − β₁) / √((1 − β₂)·(1 − β₁² / β₂)), which the
    /// Cauchy–Schwarz inequality gives for every sequence of gradients and which a mean over peers keeps. Then no step is longer than about C
    /// times the learning rate, whatever a peer sent. Needs β₁² < β₂; changes nothing when the vector does not have both moments.
    /// - Parameter values: the vector, of ``count`` floats.
    public func boundMoments(of values: inout [Float], _ optimizer: OptimizerSpec) {
        guard let first = streams.firstIndex(of: "exp_avg"), let second = streams.firstIndex(of: "exp_avg_sq"),
            let bound = optimizer.momentBound, values.count == count
        else { return }
        let parameterCount = model.parameterCount
        let (moments, squares) = ((1 + first) * parameterCount, (1 + second) * parameterCount)
        for index in 0..<parameterCount {
            // A thousandth for rounding.
            let limit = Float(1.001 * bound) * max(0, values[squares + index]).squareRoot()
            values[moments + index] = min(max(values[moments + index], -limit), limit)
        }
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

extension Double {
    /// Exponentiation by squaring: the same bits on every system.
    fileprivate func power(_ exponent: Int) -> Double {
        var (result, square, left) = (1.0, self, exponent)
        while left > 0 {
            if left & 1 == 1 { result *= square }
            (square, left) = (square * square, left >> 1)
        }
        return result
    }
}

extension ModelSpec {
    /// The bytes that training needs for the model alone: its weights, the weights that the round began with, gradients, and what the optimizer
    /// remembers. Rows and activations come on top.
    public func trainingBytes(_ optimizer: OptimizerSpec) -> Int { 4 * parameterCount * (3 + optimizer.streamNames.count) }

    /// The bytes that a server needs to aggregate a round: the round's weights and the new ones, each with its streams.
    public func aggregationBytes(streams: Int) -> Int { 4 * parameterCount * (2 + 2 * streams) }
}

extension OptimizerSpec {
    /// The largest |m| / √v that Adam's moments can have; nil for another optimizer, or where β₁² ≥ β₂ and there is no such bound.
    var momentBound: Double? {
        guard name != .sgd, beta2 < 1, beta1 * beta1 < beta2 else { return nil }
        return (1 - beta1) / ((1 - beta2) * (1 - beta1 * beta1 / beta2)).squareRoot()
    }
}

extension OptimizerMemory {
    /// The number of rounds between averages with ``keep`` (DES-LOC, arXiv 2505.22549): squares change slowly, and are averaged less often.
    package static func averagingPeriod(of stream: String) -> Int { stream == "exp_avg_sq" ? 6 : 3 }

    /// The largest number of parameters for which optimizer state is averaged by default: 8 MB of weights, 24 with Adam's moments.
    public static let averagedParameters = 2 << 20

    /// The default for a model.
    public static func standard(for model: ModelSpec) -> OptimizerMemory { model.parameterCount <= averagedParameters ? .average : .keep }
}
