public import CohortCore

/// The weights that a seed means, the same on every peer: for each tensor of ``ModelSpec/tensors`` in order, each value in row-major order is
/// (2·u − 1)/√fan-in with u uniform in 0 ..< 1 from ``SeededGenerator/nextFloat()`` of the stream `weights`. PyTorch's `nn.Linear` draws from
/// the same distribution.
public func initialParameters(_ spec: ModelSpec, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed, purpose: "weights")
    var parameters: [Float] = []
    parameters.reserveCapacity(spec.parameterCount)
    for (inputs, outputs) in zip(spec.widths, spec.widths.dropFirst()) {
        let bound = 1 / Float(max(inputs, 1)).squareRoot()
        for _ in 0..<(inputs * outputs + outputs) { parameters.append((2 * generator.nextFloat() - 1) * bound) }
    }
    return parameters
}
