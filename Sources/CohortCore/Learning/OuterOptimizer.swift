/// The server's own optimizer: it takes the mean change of a round, Δ, for the step to make, and remembers. What it remembers stays on the server.
public enum OuterOptimizer: Hashable, Sendable {
    /// v ← β·v + Δ, w ← w + η·v; with `nesterov` w ← w + η·(Δ + β·v).
    case momentum(beta: Double, learningRate: Double, nesterov: Bool)
    /// m ← β₁·m + (1 − β₁)·Δ, v by its rule, w ← w + η·m / (√v + τ); v begins at τ². η nil: the root mean square of the first round's Δ;
    /// τ nil: a tenth of that.
    case adaptive(AdaptiveRule, beta1: Double, beta2: Double, learningRate: Double?, tau: Double?)

    /// The update of v by Δ².
    public enum AdaptiveRule: String, Hashable, Sendable {
        /// v ← v + Δ².
        case adagrad
        /// v ← β₂·v + (1 − β₂)·Δ².
        case adam
        /// v ← v − (1 − β₂)·Δ²·sign(v − Δ²).
        case yogi
    }

    /// The names of its state, each one number per parameter.
    public var slots: [String] {
        switch self {
        case .momentum: ["momentum"]
        case .adaptive: ["first", "second"]
        }
    }

    /// Returns whether ``step(after:size:)`` depends on the size of the round's change.
    public func needsSize(_ state: OuterState?) -> Bool {
        if case .adaptive = self { state == nil || state?.learningRate == 0 } else { false }
    }

    /// - Parameters:
    ///   - state: of the rounds before; nil in the first.
    ///   - size: the root mean square of the round's change, where ``needsSize(_:)`` asks for it.
    /// - Returns: nil in a first round that changed nothing, which says nothing of a step's size: the mean is the model.
    public func step(after state: OuterState?, size: Double) -> Step? {
        switch self {
        case .momentum(_, let learningRate, _):
            return Step(optimizer: self, state: OuterState(learningRate: learningRate), initial: [0])
        case .adaptive(_, _, _, let given, let givenTau):
            let isFirst = needsSize(state)
            guard size > 0 || !isFirst else { return nil }
            let learningRate = isFirst ? given ?? size : state?.learningRate ?? size
            let tau = isFirst ? givenTau ?? size / 10 : state?.tau ?? size / 10
            return Step(optimizer: self, state: OuterState(learningRate: learningRate, tau: tau), initial: [0, Float(tau * tau)])
        }
    }

    /// One round's step, each parameter separately: the same numbers give the same bits, in slices as at once.
    public struct Step: Sendable {
        fileprivate let optimizer: OuterOptimizer
        /// The state after the step.
        public let state: OuterState
        /// The initial value of each of ``OuterOptimizer/slots``.
        public let initial: [Float]

        /// - Parameters:
        ///   - start: weights that the round began with.
        ///   - mean: the peers' mean of them, which becomes the new weights.
        ///   - slots: what is remembered of them, in the order of ``OuterOptimizer/slots``.
        public func apply(
            from start: UnsafeBufferPointer<Float>, to mean: UnsafeMutableBufferPointer<Float>, slots: [UnsafeMutableBufferPointer<Float>]
        ) {
            switch optimizer {
            case .momentum(let beta, let learningRate, let nesterov):
                for index in 0..<start.count {
                    let change = Double(mean[index]) - Double(start[index])
                    let velocity = beta * Double(slots[0][index]) + change
                    slots[0][index] = Float(velocity)
                    mean[index] = Float(Double(start[index]) + learningRate * (nesterov ? change + beta * velocity : velocity))
                }
            case .adaptive(let rule, let beta1, let beta2, _, _):
                let (learningRate, tau) = (state.learningRate ?? 0, state.tau ?? 0)
                for index in 0..<start.count {
                    let change = Double(mean[index]) - Double(start[index])
                    let square = change * change
                    let moment = beta1 * Double(slots[0][index]) + (1 - beta1) * change
                    let old = Double(slots[1][index])
                    let second =
                        switch rule {
                        case .adagrad: old + square
                        case .adam: beta2 * old + (1 - beta2) * square
                        case .yogi: old - (1 - beta2) * square * (old > square ? 1 : old < square ? -1 : 0)
                        }
                    (slots[0][index], slots[1][index]) = (Float(moment), Float(second))
                    mean[index] = Float(Double(start[index]) + learningRate * moment / (max(0, second).squareRoot() + tau))
                }
            }
        }
    }

    /// A step of whole vectors.
    /// - Parameters:
    ///   - start: the weights that the round began with; `mean`: the peers' mean, which becomes the new weights. Both have a number a parameter.
    ///   - slots: in the order of ``slots``; empty in the first round.
    ///   - state: of the rounds before; nil in the first.
    ///   - trained: the number of leading parameters that are stepped; nil: all.
    /// - Returns: the state from here on.
    public func step(
        from start: [Float], _ mean: inout [Float], slots: inout [[Float]], state: OuterState?, trained: Int? = nil
    ) -> OuterState {
        if let trained, trained < start.count {
            var (weights, own) = (Array(mean.prefix(trained)), slots.map { Array($0.prefix(trained)) })
            let after = step(from: Array(start.prefix(trained)), &weights, slots: &own, state: state)
            mean.replaceSubrange(0..<trained, with: weights)
            slots = own
            return after
        }
        let squares = zip(mean, start).reduce(0) { sum, pair in
            let change = Double(pair.0) - Double(pair.1)
            return sum + change * change
        }
        let size = start.isEmpty ? 0 : (squares / Double(start.count)).squareRoot()
        guard let step = step(after: state, size: size) else { return OuterState(learningRate: 0) }
        if slots.isEmpty { slots = step.initial.map { [Float](repeating: $0, count: start.count) } }
        var flat = Array(slots.joined())
        start.withUnsafeBufferPointer { start in
            mean.withUnsafeMutableBufferPointer { mean in
                flat.withUnsafeMutableBufferPointer { flat in
                    let rows = step.initial.indices.map { index in
                        UnsafeMutableBufferPointer(rebasing: flat[(index * start.count)..<((index + 1) * start.count)])
                    }
                    step.apply(from: start, to: mean, slots: rows)
                }
            }
        }
        slots = step.initial.indices.map { Array(flat[($0 * start.count)..<(($0 + 1) * start.count)]) }
        return step.state
    }
}

/// The state of an ``OuterOptimizer`` between rounds.
public struct OuterState: Codable, Hashable, Sendable {
    /// η, as set or as found in the first round; nil for a rule that keeps state without an optimizer.
    public var learningRate: Double?
    public var tau: Double?
    /// A number a parameter each, as an object beside the weights' own.
    public var slots: ObjectReference?

    public init(learningRate: Double? = nil, tau: Double? = nil, slots: ObjectReference? = nil) {
        self.learningRate = learningRate
        self.tau = tau
        self.slots = slots
    }
}
