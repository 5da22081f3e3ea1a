import CKernels
import CohortCore

/// A fully connected net with its optimizer: every buffer is made in `init` (or when a larger batch comes), none in a step.
///
/// With X⁰ the batch [batch, in], layer l: Z = Xˡ⁻¹·Wᵀ + b, Xˡ = activation(Z). Weights W are [out, in], as PyTorch has them.
final class SimpleDNN: TrainableModel {
    let spec: ModelSpec
    private var optimizer = OptimizerSpec()
    private let layers: [Layer]
    private let count: Int
    /// Weights, gradients and the optimizer's two moments, flat, in the order of ``ModelSpec/tensors``.
    private let weights, gradients, first, second: UnsafeMutablePointer<Float>
    private var steps = 0
    private var dropout = SeededGenerator(seed: 0, purpose: "dropout")
    /// nil since weights were loaded.
    private var dropoutSeed: UInt64?
    /// The class weights as given, and for the kernels; nil: all classes have equal weight.
    private var classWeights: (given: [Double], values: [Float])?
    private var labelSmoothing: Float = 0
    private var numberLoss = COHORT_MSE
    private var proximalMu: Float = 0
    /// The weights that were loaded; nil until a pass is pulled toward them.
    private var anchor: UnsafeMutablePointer<Float>?
    private var isAnchored = false
    /// The correction that each step subtracts, times the learning rate.
    private var correction: UnsafeMutablePointer<Float>?
    private var isCorrected = false

    private var batchCapacity = 0
    /// outputs[0] is the gathered batch, outputs[l] the output of layer l.
    private var outputs: [UnsafeMutablePointer<Float>] = []
    private var deltas: [UnsafeMutablePointer<Float>] = []
    private var masks: [UnsafeMutablePointer<UInt8>] = []
    private var targets = UnsafeMutablePointer<Float>.allocate(capacity: 1)
    private var products: Products?
    private let threads: KernelThreads

    private struct Layer {
        var inputs, outputs: Int
        var weight, bias: Int
    }

    /// - Throws: ``CohortError`` `invalid` for an invalid spec.
    init(_ spec: ModelSpec, threads: Int) throws {
        try spec.check()
        self.spec = spec
        var offset = 0
        layers = zip(spec.widths, spec.widths.dropFirst()).map { inputs, outputs in
            defer { offset += inputs * outputs + outputs }
            return Layer(inputs: inputs, outputs: outputs, weight: offset, bias: offset + inputs * outputs)
        }
        count = offset
        weights = .zeros(count)
        gradients = .zeros(count)
        first = .zeros(count)
        second = .zeros(count)
        // A small net is faster without: handing work over takes as long as doing it.
        self.threads = KernelThreads(count: count >= 1 << 16 ? threads : 1)
    }

    deinit {
        for pointer in [weights, gradients, first, second, targets] + outputs + deltas { pointer.deallocate() }
        for mask in masks { mask.deallocate() }
        products?.deallocate()
        anchor?.deallocate()
        correction?.deallocate()
    }

    func parameters() -> [Float] { Array(UnsafeBufferPointer(start: weights, count: count)) }

    func load(parameters: [Float], keepsOptimizer: Bool) throws {
        guard parameters.count == count else {
            throw CohortError(.invalid, "\(parameters.count) parameters were given; this net has \(count)")
        }
        for index in 0..<count { weights[index] = parameters[index] }
        if !keepsOptimizer { forget() }
        isAnchored = false
        dropoutSeed = nil
    }

    /// The moments, in the order of ``OptimizerSpec/streamNames``.
    private var streams: [UnsafeMutablePointer<Float>] { Array([first, second].prefix(optimizer.streamNames.count)) }

    func optimizerState() -> OptimizerState {
        OptimizerState(
            optimizer: optimizer, steps: steps,
            streams: Dictionary(
                uniqueKeysWithValues: zip(optimizer.streamNames, streams).map { ($0, Array(UnsafeBufferPointer(start: $1, count: count))) })
        )
    }

    func load(optimizerState state: OptimizerState) throws {
        try state.check(parameterCount: count)
        optimizer = state.optimizer
        forget()
        for (name, stream) in zip(optimizer.streamNames, streams) {
            guard let values = state.streams[name] else { continue }
            for index in 0..<count { stream[index] = values[index] }
        }
        steps = state.steps
    }

    func load(correction values: [Float]?) throws {
        isCorrected = values != nil
        guard let values else { return }
        guard values.count == count else {
            throw CohortError(.invalid, "a correction of \(values.count) numbers was given; this net has \(count) parameters")
        }
        let correction = correction ?? .zeros(count)
        for index in 0..<count { correction[index] = values[index] }
        self.correction = correction
    }

    /// The optimizer's memory.
    private func forget() {
        first.update(repeating: 0, count: count)
        second.update(repeating: 0, count: count)
        steps = 0
    }

    private func apply(_ options: TrainingOptions) {
        if optimizer != options.optimizer {
            optimizer = options.optimizer
            forget()
        }
        if dropoutSeed != options.dropoutSeed {
            dropoutSeed = options.dropoutSeed
            dropout = SeededGenerator(seed: options.dropoutSeed, purpose: "dropout")
        }
        if classWeights?.given != options.classWeights { classWeights = options.classWeights.map { ($0, $0.map(Float.init)) } }
        labelSmoothing = Float(options.labelSmoothing)
        numberLoss =
            switch options.loss {
            case .l1: COHORT_L1
            case .huber: COHORT_HUBER
            case .mse, .crossEntropy, nil: COHORT_MSE
            }
        proximalMu = Float(options.proximalMu)
        if proximalMu > 0, !isAnchored {
            let anchor = anchor ?? .zeros(count)
            anchor.update(from: weights, count: count)
            self.anchor = anchor
            isAnchored = true
        }
    }

    func train(
        on prepared: any PreparedTable, rows: [UInt32], options: TrainingOptions, shouldContinue: () -> Bool
    ) throws -> Counts {
        let (table, batchSize) = (prepared.table, options.batchSize)
        try check(table)
        try options.check(for: spec)
        apply(options)
        reserve(min(batchSize, max(rows.count, 1)))
        var counts = Counts()
        var start = 0
        while start < rows.count, shouldContinue() {
            let size = min(batchSize, rows.count - start)
            counts = counts + step(table, rows[start..<(start + size)], learningRate: Float(options.learningRate))
            start += size
        }
        return counts
    }

    func evaluate(on prepared: any PreparedTable, rows: ArraySlice<UInt32>, shouldContinue: () -> Bool) throws -> Counts {
        let (table, batchSize) = (prepared.table, 256)
        try check(table)
        reserve(min(batchSize, max(rows.count, 1)))
        var counts = Counts()
        var start = rows.startIndex
        while start < rows.endIndex, shouldContinue() {
            let end = min(start + batchSize, rows.endIndex)
            gather(table, rows[start..<end])
            forward(end - start, training: false)
            counts = counts + loss(end - start, gradient: false)
            start = end
        }
        return counts
    }

    func predict(_ features: [Float], rowCount: Int) throws -> [Float] {
        guard features.count == rowCount * spec.inputs else {
            throw CohortError(.invalid, "\(features.count) features were given for \(rowCount) rows of \(spec.inputs)")
        }
        var result: [Float] = []
        result.reserveCapacity(rowCount * spec.outputs)
        reserve(min(256, max(rowCount, 1)))
        for start in stride(from: 0, to: rowCount, by: 256) {
            let size = min(256, rowCount - start)
            for index in 0..<(size * spec.inputs) { outputs[0][index] = features[start * spec.inputs + index] }
            forward(size, training: false)
            let output = outputs[layers.count]
            if spec.task == .classification { cohort_softmax(output, size, spec.outputs) }
            result.append(contentsOf: UnsafeBufferPointer(start: output, count: size * spec.outputs))
        }
        return result
    }

    // MARK: One step

    private func step(_ table: FeatureTable, _ rows: ArraySlice<UInt32>, learningRate: Float) -> Counts {
        gather(table, rows)
        forward(rows.count, training: true)
        let counts = loss(rows.count, gradient: true)
        backward(rows.count)
        if let most = optimizer.gradientClip { cohort_clip(gradients, count, Float(most)) }
        update(learningRate)
        if isCorrected, let correction { cohort_shift(weights, correction, count, learningRate) }
        if proximalMu > 0, let anchor { cohort_pull(weights, anchor, count, learningRate * proximalMu) }
        return counts
    }

    private func gather(_ table: FeatureTable, _ rows: ArraySlice<UInt32>) {
        rows.withUnsafeBufferPointer { rows in
            guard let indices = rows.baseAddress else { return }
            cohort_gather(threads.pointer, table.features, table.featureCount, indices, rows.count, outputs[0])
            for index in 0..<rows.count { targets[index] = table.targets[Int(indices[index])] }
        }
    }

    private func forward(_ batch: Int, training: Bool) {
        for index in layers.indices {
            let layer = layers[index]
            let isLast = index + 1 == layers.count
            let z = outputs[index + 1]
            products?.forward(
                z, x: outputs[index], weight: weights + layer.weight, bias: weights + layer.bias, batch: batch, inputs: layer.inputs,
                outputs: layer.outputs, activation: isLast ? COHORT_LINEAR : activation)
            guard !isLast, training, spec.dropout > 0 else { continue }
            let kept = Float(1 - spec.dropout)
            for unit in 0..<(batch * layer.outputs) { masks[index][unit] = dropout.nextFloat() < kept ? 1 : 0 }
            cohort_dropout(z, masks[index], batch * layer.outputs, 1 / kept)
        }
    }

    /// Computes the loss; with `gradient`, the last layer's outputs become dLoss/dZ of the mean loss.
    private func loss(_ batch: Int, gradient: Bool) -> Counts {
        var counts = Counts(samples: batch)
        let output = outputs[layers.count]
        switch spec.task {
        case .classification:
            var correct: Int64 = 0
            func sum(_ weights: UnsafePointer<Float>?) -> Double {
                gradient && labelSmoothing > 0
                    ? cohort_smoothed_cross_entropy(output, targets, batch, spec.outputs, weights, labelSmoothing, &correct)
                    : cohort_cross_entropy(output, targets, batch, spec.outputs, weights, gradient ? 1 : 0, &correct)
            }
            let weights = gradient ? classWeights?.values : nil
            counts.lossSum = weights?.withUnsafeBufferPointer { sum($0.baseAddress) } ?? sum(nil)
            counts.correct = Int(correct)
        case .regression:
            var sums = (0.0, 0.0)
            counts.lossSum = withUnsafeMutableBytes(of: &sums) { bytes in
                cohort_squared_error(
                    output, targets, batch, gradient ? numberLoss : COHORT_NO_GRADIENT,
                    bytes.baseAddress?.assumingMemoryBound(to: Double.self))
            }
            (counts.targetSum, counts.targetSquareSum) = sums
        }
        return counts
    }

    private func backward(_ batch: Int) {
        for index in layers.indices.reversed() {
            let layer = layers[index]
            let delta = index + 1 == layers.count ? outputs[layers.count] : deltas[index]
            products?.weightGradient(
                gradients + layer.weight, dz: delta, x: outputs[index], batch: batch, inputs: layer.inputs, outputs: layer.outputs)
            // db = column sums of dZ
            cohort_column_sums(delta, batch, layer.outputs, gradients + layer.bias)
            guard index > 0 else { continue }
            // Then through dropout and activation of the layer below.
            let below = deltas[index - 1]
            let isPlainReLU = activation == COHORT_RELU && spec.dropout == 0
            products?.inputGradient(
                below, dz: delta, weight: weights + layer.weight, gate: isPlainReLU ? UnsafePointer(outputs[index]) : nil, batch: batch,
                inputs: layer.inputs, outputs: layer.outputs)
            guard !isPlainReLU else { continue }
            if spec.dropout > 0 {
                let kept = Float(1 - spec.dropout)
                cohort_dropout(below, masks[index - 1], batch * layer.inputs, 1 / kept)
                // The activation's slope follows from its output: undo dropout's scale where it was kept.
                cohort_dropout(outputs[index], masks[index - 1], batch * layer.inputs, kept)
            }
            cohort_activation_gradient(below, outputs[index], batch * layer.inputs, Int32(activation.rawValue))
        }
    }

    private func update(_ learningRate: Float) {
        steps += 1
        switch optimizer.name {
        case .sgd:
            cohort_sgd(
                weights, gradients, first, count, learningRate, Float(optimizer.momentum), optimizer.nesterov ? 1 : 0,
                Float(optimizer.weightDecay), steps == 1 ? 1 : 0)
        case .adam, .adamw:
            cohort_adam_shared(
                threads.pointer, weights, gradients, first, second, count, learningRate, Float(optimizer.beta1), Float(optimizer.beta2),
                Float(optimizer.epsilon), Float(optimizer.weightDecay), optimizer.name == .adamw ? 1 : 0,
                Float(1 - power(optimizer.beta1, steps)), Float(1 - power(optimizer.beta2, steps)))
        }
    }

    // MARK: Buffers

    private var activation: cohort_activation {
        switch spec.activation {
        case .relu: COHORT_RELU
        case .tanh: COHORT_TANH
        case .sigmoid: COHORT_SIGMOID
        }
    }

    private func check(_ table: FeatureTable) throws {
        guard table.featureCount == spec.inputs else {
            throw CohortError(.invalid, "the table has \(table.featureCount) features; this net takes \(spec.inputs)")
        }
    }

    private func reserve(_ batch: Int) {
        guard batch > batchCapacity else { return }
        for pointer in outputs + deltas + [targets] { pointer.deallocate() }
        for mask in masks { mask.deallocate() }
        outputs = spec.widths.map { .zeros(batch * $0) }
        deltas = spec.hidden.map { .zeros(batch * $0) }
        targets = .zeros(batch)
        masks = spec.dropout > 0 ? spec.hidden.map { .zeros(batch * $0) } : []
        products?.deallocate()
        products = Products(
            maxInner: max(batch, spec.widths.max() ?? 1),
            usesBLAS: layers.contains { batch * $0.inputs * $0.outputs >= Products.large }, threads: threads)
        batchCapacity = batch
    }

    private func power(_ base: Double, _ exponent: Int) -> Double {
        var result = 1.0
        var base = base
        var exponent = exponent
        while exponent > 0 {
            if exponent & 1 == 1 { result *= base }
            base *= base
            exponent >>= 1
        }
        return result
    }
}

extension UnsafeMutablePointer where Pointee: BinaryFloatingPoint {
    fileprivate static func zeros(_ count: Int) -> Self {
        let pointer = Self.allocate(capacity: Swift.max(count, 1))
        pointer.initialize(repeating: 0, count: Swift.max(count, 1))
        return pointer
    }
}

extension UnsafeMutablePointer<UInt8> {
    fileprivate static func zeros(_ count: Int) -> Self {
        let pointer = Self.allocate(capacity: Swift.max(count, 1))
        pointer.initialize(repeating: 0, count: Swift.max(count, 1))
        return pointer
    }
}
