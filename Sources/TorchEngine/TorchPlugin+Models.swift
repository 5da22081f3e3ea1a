import CTorch
public import CohortCore

extension TorchPlugin {
    func net(_ spec: ModelSpec, device: String, precision: cohort_torch_precision) throws -> OpaquePointer {
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

    func module(
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

    func tensors(of model: OpaquePointer) throws -> [TensorSpec] {
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
    var inTorch: cohort_torch_task { self == .classification ? COHORT_TORCH_CLASSIFICATION : COHORT_TORCH_REGRESSION }
}

extension LossName? {
    /// The loss for numbers; that of classes is always cross-entropy.
    var inTorch: cohort_torch_loss {
        switch self {
        case .l1: COHORT_TORCH_L1
        case .huber: COHORT_TORCH_HUBER
        case .mse, .crossEntropy, nil: COHORT_TORCH_MSE
        }
    }
}

extension Activation {
    var inTorch: cohort_torch_activation {
        switch self {
        case .relu: COHORT_TORCH_RELU
        case .tanh: COHORT_TORCH_TANH
        case .sigmoid: COHORT_TORCH_SIGMOID
        }
    }
}

extension OptimizerName {
    var inTorch: cohort_torch_optimizer {
        switch self {
        case .sgd: COHORT_TORCH_SGD
        case .adam: COHORT_TORCH_ADAM
        case .adamw: COHORT_TORCH_ADAMW
        }
    }
}
