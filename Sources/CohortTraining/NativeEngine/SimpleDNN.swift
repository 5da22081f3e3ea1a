import CKernels
import CohortCore

/// A fully connected net with its optimizer: every buffer is made in `init` (or when a larger batch comes), none in a step.
///
/// With X⁰ the batch [batch, in], layer l: Z = Xˡ⁻¹·Wᵀ + b, Xˡ = activation(Z). Weights W are [out, in], as PyTorch has them.
final class SimpleDNN: TrainableModel {
    let spec: ModelSpec
    var optimizer = OptimizerSpec()
    let layers: [Layer]
    let count: Int
    /// Weights, gradients and the optimizer's two moments, flat, in the order of ``ModelSpec/tensors``.
    let weights, gradients, first, second: UnsafeMutablePointer<Float>
    var steps = 0
    var dropout = SeededGenerator(seed: 0, purpose: "dropout")
    /// nil since weights were loaded.
    var dropoutSeed: UInt64?
    /// The class weights as given, and for the kernels; nil: all classes have equal weight.
    var classWeights: (given: [Double], values: [Float])?
    var labelSmoothing: Float = 0
    var numberLoss = COHORT_MSE
    var proximalMu: Float = 0
    /// The weights that were loaded; nil until a pass is pulled toward them.
    var anchor: UnsafeMutablePointer<Float>?
    var isAnchored = false
    /// The correction that each step subtracts, times the learning rate.
    var correction: UnsafeMutablePointer<Float>?
    var isCorrected = false

    var batchCapacity = 0
    /// outputs[0] is the gathered batch, outputs[l] the output of layer l.
    var outputs: [UnsafeMutablePointer<Float>] = []
    var deltas: [UnsafeMutablePointer<Float>] = []
    var masks: [UnsafeMutablePointer<UInt8>] = []
    var targets = UnsafeMutablePointer<Float>.allocate(capacity: 1)
    var products: Products?
    /// The packed table that was read last.
    var packedTable: (table: FeatureTable, gather: PackedGather)?
    /// The arrangement of the first layer's numbers in memory; nil: the one of ``ModelSpec/tensors``.
    private(set) var coded: CodedLayer?
    /// The table that was looked at last.
    private weak var codedTable: FeatureTable?
    let threads: KernelThreads

    struct Layer {
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

    /// Arranges the first layer's numbers for a table's columns; nil: in the order of ``ModelSpec/tensors``.
    private func arrange(for table: FeatureTable?) {
        if let table, table === codedTable { return }
        codedTable = table
        let wanted = table.flatMap(CodedLayer.init)
        guard coded != nil || wanted != nil, let layer = layers.first else { return }
        for values in [weights, first, second] + [anchor, correction].compactMap({ $0 }) {
            coded?.arrange(values + layer.weight, outputs: layer.outputs, isBack: true)
            wanted?.arrange(values + layer.weight, outputs: layer.outputs, isBack: false)
        }
        coded = wanted
    }

    func parameters() -> [Float] {
        arrange(for: nil)
        return Array(UnsafeBufferPointer(start: weights, count: count))
    }

    func load(parameters: [Float], keepsOptimizer: Bool) throws {
        guard parameters.count == count else {
            throw CohortError(.invalid, "\(parameters.count) parameters were given; this net has \(count)")
        }
        arrange(for: nil)
        for index in 0..<count { weights[index] = parameters[index] }
        if !keepsOptimizer { forget() }
        isAnchored = false
        dropoutSeed = nil
    }

    /// The moments, in the order of ``OptimizerSpec/streamNames``.
    var streams: [UnsafeMutablePointer<Float>] { Array([first, second].prefix(optimizer.streamNames.count)) }

    func optimizerState() -> OptimizerState {
        arrange(for: nil)
        return OptimizerState(
            optimizer: optimizer, steps: steps,
            streams: Dictionary(
                uniqueKeysWithValues: zip(optimizer.streamNames, streams).map { ($0, Array(UnsafeBufferPointer(start: $1, count: count))) })
        )
    }

    func load(optimizerState state: OptimizerState) throws {
        try state.check(parameterCount: count)
        arrange(for: nil)
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
        arrange(for: nil)
        let correction = correction ?? .zeros(count)
        for index in 0..<count { correction[index] = values[index] }
        self.correction = correction
    }

    /// The optimizer's memory.
    func forget() {
        first.update(repeating: 0, count: count)
        second.update(repeating: 0, count: count)
        steps = 0
    }

    func apply(_ options: TrainingOptions) {
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
        arrange(for: table)
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
        arrange(for: table)
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
        arrange(for: nil)
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

    // MARK: Buffers

    var activation: cohort_activation {
        switch spec.activation {
        case .relu: COHORT_RELU
        case .tanh: COHORT_TANH
        case .sigmoid: COHORT_SIGMOID
        }
    }

    func check(_ table: FeatureTable) throws {
        guard table.featureCount == spec.inputs else {
            throw CohortError(.invalid, "the table has \(table.featureCount) features; this net takes \(spec.inputs)")
        }
    }

    func reserve(_ batch: Int) {
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

    func power(_ base: Double, _ exponent: Int) -> Double {
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
