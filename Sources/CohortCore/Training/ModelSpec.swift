/// What is predicted: one of several classes (softmax cross-entropy) or a number (mean squared error).
public enum LearningTask: String, Codable, Sendable, CaseIterable {
    case classification
    case regression
}

public enum Activation: String, Codable, Sendable, CaseIterable {
    case relu
    case tanh
    case sigmoid
}

/// The shape of a SimpleDNN, a fully connected net: `inputs` → `hidden[0]` → … → `outputs`, an activation (and dropout, while
/// training) after every hidden layer. `outputs` is the number of classes, or 1 for regression.
public struct ModelSpec: Codable, Hashable, Sendable {
    public var inputs: Int
    public var hidden: [Int]
    public var outputs: Int
    public var activation: Activation
    /// Probability that a hidden unit is dropped in a training step, 0 ..< 1.
    public var dropout: Double
    public var task: LearningTask

    public init(
        inputs: Int, hidden: [Int], outputs: Int, activation: Activation = .relu, dropout: Double = 0, task: LearningTask
    ) {
        self.inputs = inputs
        self.hidden = hidden
        self.outputs = outputs
        self.activation = activation
        self.dropout = dropout
        self.task = task
    }

    /// The widths from input to output, hidden ones included.
    public var widths: [Int] { [inputs] + hidden + [outputs] }

    /// Every tensor in the order of the flat parameter vector: for each layer its weight [out, in], then its bias [out]. Names are
    /// those of PyTorch's `nn.Sequential(Linear, Activation, (Dropout,) …, Linear)`.
    public var tensors: [TensorSpec] {
        let stride = dropout > 0 ? 3 : 2
        return zip(widths, widths.dropFirst()).enumerated().flatMap { layer, width in
            [
                TensorSpec(name: "\(layer * stride).weight", shape: [width.1, width.0]),
                TensorSpec(name: "\(layer * stride).bias", shape: [width.1]),
            ]
        }
    }

    /// How many floats the flat parameter vector has.
    public var parameterCount: Int { tensors.reduce(0) { $0 + $1.count } }

    /// The most parameters that a net may have, anywhere: 1 GiB of floats.
    public static let maxParameters = 1 << 28

    /// Specs come from messages and files: what cannot be is told before anything is made of it.
    /// - Throws: ``CohortError`` `invalid`, with the widths and what is wrong with them.
    public func check() throws {
        guard hidden.count <= 64, widths.allSatisfy({ 1...(1 << 24) ~= $0 }), 0..<1 ~= dropout else {
            let shown = widths.prefix(66).map(String.init).joined(separator: "-")
            throw CohortError(
                .invalid,
                "a net of widths \(shown) with dropout \(dropout) cannot be made: there are at most 64 hidden layers, widths are from 1 to \(1 << 24), dropout is from 0 to below 1"
            )
        }
        guard parameterCount <= Self.maxParameters else {
            throw CohortError(
                .invalid, "a net of widths \(widths) has \(parameterCount) parameters; at most \(Self.maxParameters) are supported")
        }
        guard task == .classification || outputs == 1 else {
            throw CohortError(.invalid, "a net for regression has one output, not \(outputs)")
        }
    }
}

/// A named tensor of 32-bit floats, row-major.
public struct TensorSpec: Codable, Hashable, Sendable {
    public var name: String
    public var shape: [Int]

    public init(name: String, shape: [Int]) {
        self.name = name
        self.shape = shape
    }

    public var count: Int { shape.reduce(1, *) }
}

public enum OptimizerName: String, Codable, Sendable, CaseIterable {
    case sgd
    case adam
    case adamw
}

/// The update rule; defaults are PyTorch's.
public struct OptimizerSpec: Codable, Hashable, Sendable {
    public var name: OptimizerName
    /// SGD only.
    public var momentum: Double
    /// SGD with momentum only.
    public var nesterov: Bool
    /// Added to the gradient (SGD, Adam), or decoupled from it (AdamW).
    public var weightDecay: Double
    public var beta1: Double
    public var beta2: Double
    public var epsilon: Double
    /// A step's gradient of a larger norm, over all parameters, is scaled down to this; nil: none is.
    public var gradientClip: Double?

    public init(
        name: OptimizerName = .adam, momentum: Double = 0, nesterov: Bool = false, weightDecay: Double? = nil, beta1: Double = 0.9,
        beta2: Double = 0.999, epsilon: Double = 1e-8, gradientClip: Double? = nil
    ) {
        self.name = name
        self.momentum = momentum
        self.nesterov = nesterov
        self.weightDecay = weightDecay ?? (name == .adamw ? 0.01 : 0)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.gradientClip = gradientClip
    }
}

/// What one peer trains with in one round.
public struct Hyperparameters: Codable, Hashable, Sendable {
    public var batchSize: Int
    /// Local epochs a round.
    public var epochs: Int
    /// Learning rate.
    public var lr: Double

    public init(batchSize: Int, epochs: Int, lr: Double) {
        self.batchSize = batchSize
        self.epochs = epochs
        self.lr = lr
    }
}
