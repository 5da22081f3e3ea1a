import CTorch
public import CohortCore

/// A SimpleDNN in the plugin; in the process that runs it, a module.
final class TorchModel: TrainableModel {
    let spec: ModelSpec
    private let plugin: TorchPlugin
    private let handle: OpaquePointer
    private let count: Int
    private let device: String
    private let seen: Seen
    private var optimizer = OptimizerSpec()

    init(
        _ spec: ModelSpec, module: [UInt8]?, plugin: TorchPlugin, device: String, precision: TorchEngine.Precision, seen: Seen
    ) throws {
        try spec.check()
        guard (spec.module == nil) == (module == nil) else {
            throw CohortError(.internal, "a module's spec and its file go together")
        }
        let handle =
            if let module {
                try plugin.module(
                    module, device: device, precision: precision.inTorch, inputs: spec.inputs, shape: spec.module?.inputShape ?? [],
                    outputs: spec.outputs, task: spec.task)
            } else {
                try plugin.net(spec, device: device, precision: precision.inTorch)
            }
        do {
            let tensors = try plugin.tensors(of: handle)
            guard tensors == spec.tensors else {
                let other = zip(tensors, spec.tensors).first { $0 != $1 }
                throw CohortError(
                    .invalid,
                    "the module is not what the session says: it has \(tensors.count) tensors, \(spec.tensors.count) are expected"
                        + (other.map { "; \($0.name) of \($0.shape) instead of \($1.name) of \($1.shape)" } ?? ""))
            }
        } catch {
            plugin.api.free_model(handle)
            throw error
        }
        self.spec = spec
        self.plugin = plugin
        self.handle = handle
        self.device = device
        self.seen = seen
        count = Int(plugin.api.parameter_count(handle))
    }

    deinit { plugin.api.free_model(handle) }

    // MARK: Weights and moments

    func parameters() throws -> [Float] { try read(COHORT_TORCH_WEIGHTS) }

    func load(parameters: [Float], keepsOptimizer: Bool) throws {
        try plugin.check(plugin.api.load(handle, parameters, UInt64(parameters.count), keepsOptimizer ? 1 : 0))
    }

    func optimizerState() throws -> OptimizerState {
        let streams: [cohort_torch_stream] = [COHORT_TORCH_FIRST_MOMENT, COHORT_TORCH_SECOND_MOMENT]
        return OptimizerState(
            optimizer: optimizer, steps: Int(plugin.api.steps(handle)),
            streams: Dictionary(
                uniqueKeysWithValues: try zip(optimizer.streamNames, streams).map { name, stream in (name, try read(stream)) }))
    }

    func load(optimizerState state: OptimizerState) throws {
        try state.check(parameterCount: count)
        try withOptions(TrainingOptions(optimizer: state.optimizer)) { options in
            let streams = state.optimizer.streamNames.map { state.streams[$0] ?? [] }
            try plugin.check(
                plugin.api.restore(
                    handle, options, streams.first ?? nil, streams.count > 1 ? streams[1] : nil, UInt64(count), UInt64(state.steps)))
        }
        optimizer = state.optimizer
    }

    func load(correction: [Float]?) throws {
        if let correction, correction.count != count {
            throw CohortError(.invalid, "a correction of \(correction.count) numbers was given; this net has \(count) parameters")
        }
        try plugin.check(plugin.api.correct(handle, correction, UInt64(count)))
    }

    private func read(_ stream: cohort_torch_stream) throws -> [Float] {
        var values = [Float](repeating: 0, count: count)
        try plugin.check(plugin.api.read(handle, stream, &values, UInt64(count)))
        return values
    }

    // MARK: Passes

    func train(on table: any PreparedTable, rows: [UInt32], options: TrainingOptions, shouldContinue: () -> Bool) throws -> Counts {
        try options.check(for: spec)
        optimizer = options.optimizer
        let table = try own(table).handle()
        let counts = try withOptions(options) { options in
            try rows.withUnsafeBufferPointer { rows in
                try asking(shouldContinue) { goesOn, context in
                    var counts = cohort_torch_counts()
                    try plugin.check(
                        plugin.api.train(handle, table, rows.baseAddress, UInt64(rows.count), options, goesOn, context, &counts))
                    return Counts(counts)
                }
            }
        }
        let reduced = plugin.api.reduced_batch(handle)
        if reduced > 0 {
            seen.add("\(device) has not enough memory for batches of \(options.batchSize) rows: this peer trains with \(reduced)")
        }
        return counts
    }

    func evaluate(on table: any PreparedTable, rows: ArraySlice<UInt32>, shouldContinue: () -> Bool) throws -> Counts {
        let table = try own(table).handle()
        return try rows.withUnsafeBufferPointer { rows in
            try asking(shouldContinue) { goesOn, context in
                var counts = cohort_torch_counts()
                try plugin.check(
                    plugin.api.evaluate(handle, table, rows.baseAddress, UInt64(rows.count), goesOn, context, &counts))
                return Counts(counts)
            }
        }
    }

    func predict(_ features: [Float], rowCount: Int) throws -> [Float] {
        guard features.count == rowCount * spec.inputs else {
            throw CohortError(.invalid, "\(features.count) features were given for \(rowCount) rows of \(spec.inputs)")
        }
        var outputs = [Float](repeating: 0, count: rowCount * spec.outputs)
        try plugin.check(plugin.api.predict(handle, features, UInt64(rowCount), &outputs))
        return outputs
    }

    /// A module's file with its weights.
    func saved() throws -> [UInt8] {
        final class Taken { var bytes: [UInt8] = [] }
        let taken = Taken()
        try withExtendedLifetime(taken) {
            try plugin.check(
                plugin.api.save_module(
                    handle,
                    { context, bytes, count in
                        guard let context, let bytes else { return }
                        Unmanaged<Taken>.fromOpaque(context).takeUnretainedValue().bytes = Array(
                            UnsafeRawBufferPointer(start: bytes, count: Int(count)))
                    }, Unmanaged.passUnretained(taken).toOpaque()))
        }
        return taken.bytes
    }

    private func own(_ table: any PreparedTable) throws -> TorchTable {
        guard let table = table as? TorchTable else { throw CohortError(.internal, "the table was prepared for another engine") }
        return table
    }

    private func asking<Result>(
        _ shouldContinue: () -> Bool, _ work: (@convention(c) (UnsafeMutableRawPointer?) -> Int32, UnsafeMutableRawPointer) throws -> Result
    ) throws -> Result {
        try withoutActuallyEscaping(shouldContinue) { shouldContinue in
            let question = Question(shouldContinue)
            return try withExtendedLifetime(question) {
                try work(
                    { context in
                        guard let context else { return 0 }
                        return Unmanaged<Question>.fromOpaque(context).takeUnretainedValue().ask() ? 1 : 0
                    }, Unmanaged.passUnretained(question).toOpaque())
            }
        }
    }

    private func withOptions<Result>(
        _ options: TrainingOptions, _ work: (UnsafePointer<cohort_torch_options>) throws -> Result
    ) throws -> Result {
        func described(_ weights: UnsafePointer<Double>?) throws -> Result {
            var described = cohort_torch_options(
                optimizer: options.optimizer.name.inTorch, momentum: options.optimizer.momentum,
                nesterov: options.optimizer.nesterov ? 1 : 0, weight_decay: options.optimizer.weightDecay,
                beta1: options.optimizer.beta1, beta2: options.optimizer.beta2, epsilon: options.optimizer.epsilon,
                learning_rate: options.learningRate, batch_size: UInt64(clamping: options.batchSize), class_weights: weights,
                label_smoothing: options.labelSmoothing, number_loss: options.loss.inTorch,
                gradient_clip: options.optimizer.gradientClip ?? 0,
                proximal_mu: options.proximalMu,
                dropout_seed: options.dropoutSeed)
            return try work(&described)
        }
        guard let weights = options.classWeights else { return try described(nil) }
        return try weights.withUnsafeBufferPointer { try described($0.baseAddress) }
    }
}

private final class Question {
    let ask: () -> Bool

    init(_ ask: @escaping () -> Bool) { self.ask = ask }
}

extension Counts {
    fileprivate init(_ counts: cohort_torch_counts) {
        self.init(
            samples: Int(counts.samples), lossSum: counts.loss_sum, correct: Int(counts.correct), targetSum: counts.target_sum,
            targetSquareSum: counts.target_square_sum)
    }
}

extension TorchEngine.Precision {
    fileprivate var inTorch: cohort_torch_precision {
        switch self {
        case .float32: COHORT_TORCH_FLOAT32
        case .tf32: COHORT_TORCH_TF32
        case .bfloat16: COHORT_TORCH_BFLOAT16
        }
    }
}

extension TorchPlugin {
    fileprivate func net(_ spec: ModelSpec, device: String, precision: cohort_torch_precision) throws -> OpaquePointer {
        var handle: OpaquePointer?
        let widths = spec.widths.map { UInt32($0) }
        try widths.withUnsafeBufferPointer { widths in
            var described = cohort_torch_spec(
                widths: widths.baseAddress, width_count: UInt32(widths.count), activation: spec.activation.inTorch,
                task: spec.task.inTorch, dropout: spec.dropout)
            try check(api.make_model(device, &described, precision, &handle))
        }
        guard let handle else { throw CohortError(.internal, "PyTorch gave no model") }
        return handle
    }

    /// Writes a SimpleDNN as TorchScript: features [rows, inputs] in, class probabilities or standardized numbers [rows, outputs] out.
    /// - Parameter weights: flat, in the order of ``ModelSpec/tensors``.
    public func saveTorchScript(_ spec: ModelSpec, weights: [Float], to path: String) throws {
        try spec.check()
        try spec.widths.map { UInt32($0) }.withUnsafeBufferPointer { widths in
            var described = cohort_torch_spec(
                widths: widths.baseAddress, width_count: UInt32(widths.count), activation: spec.activation.inTorch,
                task: spec.task.inTorch, dropout: spec.dropout)
            try check(api.save_torchscript(&described, weights, UInt64(weights.count), path))
        }
    }

    fileprivate func module(
        _ bytes: [UInt8], device: String, precision: cohort_torch_precision, inputs: Int, shape: [Int], outputs: Int, task: LearningTask
    ) throws -> OpaquePointer {
        var handle: OpaquePointer?
        try bytes.withUnsafeBytes { bytes in
            try shape.map { Int64($0) }.withUnsafeBufferPointer { shape in
                var described = cohort_torch_module(
                    bytes: bytes.baseAddress, byte_count: UInt64(bytes.count), shape: shape.baseAddress, shape_count: UInt32(shape.count),
                    inputs: UInt64(inputs), outputs: UInt64(outputs), task: task.inTorch)
                try check(api.make_module(device, &described, precision, &handle))
            }
        }
        guard let handle else { throw CohortError(.internal, "PyTorch gave no model") }
        return handle
    }

    fileprivate func tensors(of model: OpaquePointer) throws -> [TensorSpec] {
        try (0..<api.tensor_count(model)).map { index in
            var name = [CChar](repeating: 0, count: 256)
            var shape = [Int64](repeating: 0, count: 8)
            var count: UInt32 = 0
            try check(api.tensor(model, index, &name, name.count, &shape, &count))
            return TensorSpec(
                name: name.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" },
                shape: shape.prefix(Int(count)).map { Int($0) })
        }
    }

    /// Inspects a module: its tensors, and the weights that it was saved with, in their order. It is tried on one row of zeros: its code runs.
    /// - Parameter shape: of one row's features as it takes them; empty: [inputs].
    /// - Throws: ``CohortError`` `invalid` for a file that is no module, one that has nothing to train, and one that does not take such
    ///   rows or give so many outputs.
    public func describe(
        module bytes: [UInt8], inputs: Int, shape: [Int], outputs: Int, task: LearningTask
    ) throws -> (tensors: [TensorSpec], trained: Int, weights: [Float]) {
        let handle = try module(
            bytes, device: "cpu", precision: COHORT_TORCH_FLOAT32, inputs: inputs, shape: shape, outputs: outputs, task: task)
        defer { api.free_model(handle) }
        var weights = [Float](repeating: 0, count: Int(api.parameter_count(handle)))
        try check(api.read(handle, COHORT_TORCH_WEIGHTS, &weights, UInt64(weights.count)))
        var results = [Float](repeating: 0, count: outputs)
        try check(api.predict(handle, [Float](repeating: 0, count: inputs), 1, &results))
        return (try tensors(of: handle), Int(clamping: api.trained_tensor_count(handle)), weights)
    }
}

extension LearningTask {
    fileprivate var inTorch: cohort_torch_task { self == .classification ? COHORT_TORCH_CLASSIFICATION : COHORT_TORCH_REGRESSION }
}

extension LossName? {
    /// The loss for numbers; that of classes is always cross-entropy.
    fileprivate var inTorch: cohort_torch_loss {
        switch self {
        case .l1: COHORT_TORCH_L1
        case .huber: COHORT_TORCH_HUBER
        case .mse, .crossEntropy, nil: COHORT_TORCH_MSE
        }
    }
}

extension Activation {
    fileprivate var inTorch: cohort_torch_activation {
        switch self {
        case .relu: COHORT_TORCH_RELU
        case .tanh: COHORT_TORCH_TANH
        case .sigmoid: COHORT_TORCH_SIGMOID
        }
    }
}

extension OptimizerName {
    fileprivate var inTorch: cohort_torch_optimizer {
        switch self {
        case .sgd: COHORT_TORCH_SGD
        case .adam: COHORT_TORCH_ADAM
        case .adamw: COHORT_TORCH_ADAMW
        }
    }
}
