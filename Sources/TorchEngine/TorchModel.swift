import CTorch
import CohortCore

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
