/// The options of a pass over the rows, beside the rows and the weights; the same for every engine.
public struct TrainingOptions: Codable, Hashable, Sendable {
    /// An optimizer that differs from that of the previous pass starts without state.
    public var optimizer: OptimizerSpec
    /// Rows a step; the last step of a pass may have fewer.
    public var batchSize: Int
    public var learningRate: Double
    /// One a class, each above 0: trains on the weighted mean of the losses, Σ w·loss / Σ w, as PyTorch's `CrossEntropyLoss(weight:)` does;
    /// nil: the mean.
    public var classWeights: [Double]?
    /// Classification: so much of each target, 0 ..< 1, is shared out among all classes, as PyTorch's `CrossEntropyLoss(label_smoothing:)` does.
    public var labelSmoothing: Double
    /// The loss to minimize; nil: cross-entropy of classes, the squared error of a number. The reported loss is that in any case.
    public var loss: LossName?
    /// μ: after each step the weights are pulled toward those that were loaded, w −= lr·μ·(w − w₀), apart from the optimizer; 0: they are not.
    public var proximalMu: Double
    /// The seed of the dropout masks, which are drawn one after the other from when the weights were loaded.
    public var dropoutSeed: UInt64

    public init(
        optimizer: OptimizerSpec = OptimizerSpec(), batchSize: Int = 32, learningRate: Double = 0.001, classWeights: [Double]? = nil,
        labelSmoothing: Double = 0, loss: LossName? = nil, proximalMu: Double = 0, dropoutSeed: UInt64 = 0
    ) {
        self.loss = loss
        self.optimizer = optimizer
        self.batchSize = batchSize
        self.learningRate = learningRate
        self.classWeights = classWeights
        self.labelSmoothing = labelSmoothing
        self.proximalMu = proximalMu
        self.dropoutSeed = dropoutSeed
    }
}

extension TrainingOptions {
    /// - Throws: ``CohortError`` `invalid` for what no engine can train a model of this shape with.
    public func check(for spec: ModelSpec) throws {
        guard batchSize > 0 else { throw CohortError(.invalid, "batch_size is \(batchSize); it must be at least 1") }
        if let classWeights {
            guard spec.task == .classification, classWeights.count == spec.outputs, classWeights.allSatisfy({ $0 > 0 && $0 < .infinity })
            else {
                throw CohortError(
                    .invalid,
                    "\(classWeights.count) class weights were given; this net takes \(spec.outputs), each above 0, of a classification")
            }
        }
        guard labelSmoothing == 0 || (spec.task == .classification && 0..<1 ~= labelSmoothing) else {
            throw CohortError(.invalid, "label_smoothing is \(labelSmoothing); it must be from 0 to below 1, of a classification")
        }
        if let loss, loss.task != spec.task {
            throw CohortError(.invalid, "loss is \(loss.rawValue), which is for \(loss.task); this net is for \(spec.task)")
        }
        guard proximalMu >= 0, proximalMu < .infinity else {
            throw CohortError(.invalid, "proximal_mu is \(proximalMu); it must be 0 or more")
        }
        if let gradientClip = optimizer.gradientClip {
            guard gradientClip > 0, gradientClip < .infinity else {
                throw CohortError(.invalid, "gradient_clip is \(gradientClip); it must be a number above 0")
            }
        }
    }
}

/// The training losses, by their names in PyTorch.
public enum LossName: String, Codable, Sendable, CaseIterable {
    case crossEntropy = "cross_entropy"
    /// (y − t)².
    case mse
    /// |y − t|: far values count less; the median, not the mean, is learned.
    case l1
    /// Half the square where |y − t| < 1, |y − t| − ½ beyond: of the standardized target.
    case huber

    public var task: LearningTask { self == .crossEntropy ? .classification : .regression }
}

/// The treatment of optimizer state (Adam's moments, SGD's velocity) at the beginning of a round.
public enum OptimizerMemory: String, Codable, Sendable, CaseIterable {
    /// It is averaged as the weights are: all peers go on from the same, and one that restarts or joins misses nothing.
    case average
    /// It starts without.
    case reset
    /// Each peer goes on with its own from its last round. Every third round the first moments (and SGD's velocity) are averaged, every sixth the
    /// second as well (DES-LOC, arXiv 2505.22549); beyond the paper, a peer's own second moment is then at least the square of an
    /// averaged first that is more than its own was. A peer that was restarted, or joins, starts without until then.
    case keep
}

/// The state of an optimizer between steps.
public struct OptimizerState: Codable, Hashable, Sendable {
    public var optimizer: OptimizerSpec
    /// Steps since it had no memory.
    public var steps: Int
    /// One number a parameter, by the names that PyTorch's optimizers have in their `state_dict`: see ``OptimizerSpec/streamNames``.
    public var streams: [String: [Float]]

    public init(optimizer: OptimizerSpec, steps: Int, streams: [String: [Float]]) {
        self.optimizer = optimizer
        self.steps = steps
        self.streams = streams
    }

    /// - Throws: ``CohortError`` `invalid` unless there is each stream of the optimizer, with so many numbers.
    public func check(parameterCount: Int) throws {
        guard steps >= 0, Set(streams.keys) == Set(optimizer.streamNames), streams.values.allSatisfy({ $0.count == parameterCount }) else {
            let given = streams.keys.sorted().map { "\($0) of \(streams[$0, default: []].count)" }.joined(separator: ", ")
            throw CohortError(
                .invalid,
                "the optimizer's state has \(steps) steps and \(given.isEmpty ? "nothing" : given); \(optimizer.name.rawValue) has \(optimizer.streamNames.joined(separator: ", ")) of \(parameterCount) numbers each"
            )
        }
    }
}

extension OptimizerSpec {
    /// The names of its state, each one number per parameter: SGD with momentum has its velocity, Adam the means of gradients and of their squares.
    public var streamNames: [String] {
        switch name {
        case .sgd: momentum > 0 ? ["momentum_buffer"] : []
        case .adam, .adamw: ["exp_avg", "exp_avg_sq"]
        }
    }
}
