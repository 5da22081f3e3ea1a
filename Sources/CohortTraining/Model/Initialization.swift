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

/// The order of an epoch: `rows` shuffled by the stream `epoch/ROUND/EPOCH` of `seed`.
public func shuffledRows(_ rows: [UInt32], seed: UInt64, round: Int, epoch: Int) -> [UInt32] {
    var generator = SeededGenerator(seed: seed, purpose: "epoch/\(round)/\(epoch)")
    var rows = rows
    generator.shuffle(&rows)
    return rows
}
