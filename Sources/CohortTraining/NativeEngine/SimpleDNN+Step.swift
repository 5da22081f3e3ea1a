import CKernels
import CohortCore

/// One step: forward, loss, backward, update.
extension SimpleDNN {
    func step(_ table: FeatureTable, _ rows: ArraySlice<UInt32>, learningRate: Float) -> Counts {
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

    func gather(_ table: FeatureTable, _ rows: ArraySlice<UInt32>) {
        rows.withUnsafeBufferPointer { rows in
            guard let indices = rows.baseAddress else { return }
            if let coded { return coded.gather(rows, into: outputs[0], targets: targets, threads: threads) }
            switch table.rows {
            case .dense(let features, let all):
                cohort_gather(threads.pointer, features, table.featureCount, indices, rows.count, outputs[0])
                for index in 0..<rows.count { targets[index] = all[Int(indices[index])] }
            case .packed(let packed):
                packedGather(of: table, packed).gather(rows, into: outputs[0], targets: targets, threads: threads)
            }
        }
    }

    /// Made once a table.
    private func packedGather(of table: FeatureTable, _ rows: PackedRows) -> PackedGather {
        if let packedTable, packedTable.table === table { return packedTable.gather }
        let gather = PackedGather(rows)
        packedTable = (table, gather)
        return gather
    }

    func forward(_ batch: Int, training: Bool) {
        for index in layers.indices {
            let layer = layers[index]
            let isLast = index + 1 == layers.count
            let z = outputs[index + 1]
            if index == 0, let coded {
                coded.forward(
                    z, x: outputs[0], weight: weights + layer.weight, bias: weights + layer.bias, batch: batch, outputs: layer.outputs,
                    activation: isLast ? COHORT_LINEAR : activation, products: products, threads: threads)
            } else {
                products?.forward(
                    z, x: outputs[index], weight: weights + layer.weight, bias: weights + layer.bias, batch: batch, inputs: layer.inputs,
                    outputs: layer.outputs, activation: isLast ? COHORT_LINEAR : activation)
            }
            guard !isLast, training, spec.dropout > 0 else { continue }
            let kept = Float(1 - spec.dropout)
            for unit in 0..<(batch * layer.outputs) { masks[index][unit] = dropout.nextFloat() < kept ? 1 : 0 }
            cohort_dropout(z, masks[index], batch * layer.outputs, 1 / kept)
        }
    }

    /// Computes the loss; with `gradient`, the last layer's outputs become dLoss/dZ of the mean loss.
    func loss(_ batch: Int, gradient: Bool) -> Counts {
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

    func backward(_ batch: Int) {
        for index in layers.indices.reversed() {
            let layer = layers[index]
            let delta = index + 1 == layers.count ? outputs[layers.count] : deltas[index]
            if index == 0, let coded {
                coded.weightGradient(
                    gradients + layer.weight, dz: delta, x: outputs[0], batch: batch, outputs: layer.outputs, products: products,
                    threads: threads)
            } else {
                products?.weightGradient(
                    gradients + layer.weight, dz: delta, x: outputs[index], batch: batch, inputs: layer.inputs, outputs: layer.outputs)
            }
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

    func update(_ learningRate: Float) {
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
}
