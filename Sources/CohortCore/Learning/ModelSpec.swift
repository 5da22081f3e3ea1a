/// The kind of prediction: one of several classes (softmax cross-entropy) or a number (mean squared error).
public enum LearningTask: String, Codable, Sendable, CaseIterable {
    case classification
    case regression
}

public enum Activation: String, Codable, Sendable, CaseIterable {
    case relu
    case tanh
    case sigmoid
}

/// The architecture of a model: a SimpleDNN, a fully connected net `inputs` → `hidden[0]` → … → `outputs`, with an activation (and dropout,
/// while training) after every hidden layer; or, with ``module``, a custom module. `outputs` is the number of classes, or 1 for regression.
public struct ModelSpec: Codable, Hashable, Sendable {
    public var inputs: Int
    public var hidden: [Int]
    public var outputs: Int
    public var activation: Activation
    /// Probability that a hidden unit is dropped in a training step, 0 ..< 1.
    public var dropout: Double
    public var task: LearningTask
    /// The module that replaces the SimpleDNN: `hidden`, `activation` and `dropout` then have no meaning.
    public var module: ModuleSpec?

    public init(
        inputs: Int, hidden: [Int], outputs: Int, activation: Activation = .relu, dropout: Double = 0, task: LearningTask,
        module: ModuleSpec? = nil
    ) {
        self.inputs = inputs
        self.hidden = hidden
        self.outputs = outputs
        self.activation = activation
        self.dropout = dropout
        self.task = task
        self.module = module
    }

    /// The widths from input to output, hidden ones included.
    public var widths: [Int] { [inputs] + hidden + [outputs] }

    /// Every tensor in the order of the flat parameter vector: for each layer its weight [out, in], then its bias [out]. Names are
    /// those of PyTorch's `nn.Sequential(Linear, Activation, (Dropout,) …, Linear)`. Of a module: its own.
    public var tensors: [TensorSpec] {
        if let module { return module.tensors }
        let stride = dropout > 0 ? 3 : 2
        return zip(widths, widths.dropFirst()).enumerated().flatMap { layer, width in
            [
                TensorSpec(name: "\(layer * stride).weight", shape: [width.1, width.0]),
                TensorSpec(name: "\(layer * stride).bias", shape: [width.1]),
            ]
        }
    }

    /// The number of floats of the flat parameter vector.
    public var parameterCount: Int { tensors.reduce(0) { $0 + $1.count } }

    /// The number of leading parameters that an optimizer trains; those behind them are a module's statistics, which are averaged over peers and
    /// stepped by no optimizer.
    public var trainedParameterCount: Int {
        guard let module else { return parameterCount }
        return module.tensors.prefix(module.trainedTensorCount).reduce(0) { $0 + $1.count }
    }

    /// Sets variances that averaging compressed updates made negative to 0.
    /// - Parameter values: begins with the parameters.
    public func boundStatistics(of values: inout [Float]) {
        guard let module, values.count >= parameterCount else { return }
        var position = 0
        for tensor in module.tensors {
            if tensor.isVariance {
                for index in position..<(position + tensor.count) where values[index] < 0 { values[index] = 0 }
            }
            position += tensor.count
        }
    }

    /// The most parameters that a net may have, anywhere: 1 GiB of floats.
    public static let maxParameters = 1 << 28

    /// Checks a spec that came in a message or a file, before anything is allocated for it.
    /// - Throws: ``CohortError`` `invalid`, with the widths and what is wrong with them.
    public func check() throws {
        guard hidden.count <= 64, widths.allSatisfy({ 1...(1 << 24) ~= $0 }), 0..<1 ~= dropout else {
            let shown = widths.prefix(66).map(String.init).joined(separator: "-")
            throw CohortError(
                .invalid,
                "a net of widths \(shown) with dropout \(dropout) is invalid: there must be at most 64 hidden layers, widths are from 1 to \(1 << 24), dropout is from 0 to below 1"
            )
        }
        try module?.check(inputs: inputs)
        guard parameterCount <= Self.maxParameters else {
            let what = module == nil ? "a net of widths \(widths)" : "the module"
            throw CohortError(.invalid, "\(what) has \(parameterCount) parameters; at most \(Self.maxParameters) are supported")
        }
        guard task == .classification || outputs == 1 else {
            throw CohortError(.invalid, "a net for regression has one output, not \(outputs)")
        }
    }
}

/// The description of a custom module, known without running it.
public struct ModuleSpec: Codable, Hashable, Sendable {
    public enum Format: String, Codable, Sendable, CaseIterable {
        /// The format of `torch.jit.save`.
        case torchscript
    }

    public var format: Format
    /// The SHA-256 of the file, in hexadecimal.
    public var sha256: String
    /// The shape of one row's features as input, such as [1, 28, 28]; empty: [inputs].
    public var inputShape: [Int]
    /// Its parameters, and behind them statistics such as those of batch normalization.
    public var tensors: [TensorSpec]
    /// The number of ``tensors``, from the first on, that an optimizer trains; nil in files of older versions: all but those that are named as
    /// PyTorch's batch normalization names its statistics.
    public var trained: Int?

    public init(
        format: Format = .torchscript, sha256: String, inputShape: [Int], tensors: [TensorSpec], trained: Int? = nil
    ) {
        self.trained = trained
        self.format = format
        self.sha256 = sha256
        self.inputShape = inputShape
        self.tensors = tensors
    }

    /// The number of ``tensors`` that an optimizer trains; those behind them are statistics.
    public var trainedTensorCount: Int {
        trained ?? (tensors.lastIndex { !$0.isBatchStatistic }).map { $0 + 1 } ?? 0
    }

    /// Returns whether this is a SHA-256 in lowercase hexadecimal.
    public static func isHash(_ text: String) -> Bool {
        text.utf8.count == 64 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    /// - Throws: ``CohortError`` `invalid`, with the reason.
    func check(inputs: Int) throws {
        guard Self.isHash(sha256) else {
            throw CohortError(.invalid, "the module's sha256 is not 64 hexadecimal digits")
        }
        guard 1...65_536 ~= tensors.count, Set(tensors.map(\.name)).count == tensors.count else {
            throw CohortError(
                .invalid,
                "the module has \(tensors.count) tensors, or two of one name; there must be from 1 to 65536, with different names")
        }
        if let trained, !(0...tensors.count).contains(trained) {
            throw CohortError(
                .invalid, "the module has \(trained) trained tensors; it must be from 0 to \(tensors.count), which it has in all")
        }
        let most = 1 << 28
        func size(_ shape: [Int]) -> Int? {
            guard shape.count <= 8 else { return nil }
            return shape.reduce(1 as Int?) { size, length in
                guard let size, 0...most ~= length, size * length <= most else { return nil }
                return size * length
            }
        }
        for tensor in tensors {
            guard 1...200 ~= tensor.name.utf8.count, size(tensor.shape) != nil else {
                throw CohortError(
                    .invalid, "the module's tensor '\(tensor.name.printable(max: 60))' has the invalid shape \(tensor.shape.prefix(9))")
            }
        }
        guard inputShape.isEmpty || size(inputShape) == inputs else {
            throw CohortError(
                .invalid,
                "the module takes inputs of shape \(inputShape.prefix(9)); a row has \(inputs) features, which is another number of values")
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

    /// `true` for a running mean or variance of PyTorch's batch normalization, by its name.
    var isBatchStatistic: Bool { ["running_mean", "running_var"].contains { name == $0 || name.hasSuffix(".\($0)") } }

    /// `true` for variances, which are 0 or more.
    var isVariance: Bool { isBatchStatistic && name.hasSuffix("running_var") }
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

/// The hyperparameters of one peer in one round.
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
