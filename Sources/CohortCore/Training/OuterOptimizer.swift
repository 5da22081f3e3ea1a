/// The server's own optimizer: it takes the mean change of a round, Δ, for the step to make, and remembers. What it remembers stays on the server.
public enum OuterOptimizer: Hashable, Sendable {
    /// v ← β·v + Δ, w ← w + η·v; with `nesterov` w ← w + η·(Δ + β·v).
    case momentum(beta: Double, learningRate: Double, nesterov: Bool)
    /// m ← β₁·m + (1 − β₁)·Δ, v by its rule, w ← w + η·m / (√v + τ); v begins at τ². η nil: the root mean square of the first round's Δ;
    /// τ nil: a tenth of that.
    case adaptive(AdaptiveRule, beta1: Double, beta2: Double, learningRate: Double?, tau: Double?)

    /// How v follows Δ².
    public enum AdaptiveRule: String, Hashable, Sendable {
        /// v ← v + Δ².
        case adagrad
        /// v ← β₂·v + (1 − β₂)·Δ².
        case adam
        /// v ← v − (1 − β₂)·Δ²·sign(v − Δ²).
        case yogi
    }

    /// What it remembers a number a parameter of.
    public var slots: [String] {
        switch self {
        case .momentum: ["momentum"]
        case .adaptive: ["first", "second"]
        }
    }

    /// One round's step, slot by slot in place: the same numbers give the same bits.
    /// - Parameters:
    ///   - start: the weights that the round began with; `mean`: the peers' mean, which becomes the new weights. Both have a number a parameter.
    ///   - slots: in the order of ``slots``; empty in the first round.
    ///   - state: of the rounds before; nil in the first.
    /// - Returns: the state from here on.
    public func step(from start: ArraySlice<Float>, _ mean: inout [Float], slots: inout [[Float]], state: OuterState?) -> OuterState {
        let count = start.count
        let first = start.startIndex
        switch self {
        case .momentum(let beta, let learningRate, let nesterov):
            if slots.isEmpty { slots = [[Float](repeating: 0, count: count)] }
            for index in 0..<count {
                let change = Double(mean[index]) - Double(start[first + index])
                let velocity = beta * Double(slots[0][index]) + change
                slots[0][index] = Float(velocity)
                mean[index] = Float(Double(start[first + index]) + learningRate * (nesterov ? change + beta * velocity : velocity))
            }
            return OuterState(learningRate: learningRate)
        case .adaptive(let rule, let beta1, let beta2, let given, let givenTau):
            var squares = 0.0
            for index in 0..<count {
                let change = Double(mean[index]) - Double(start[first + index])
                squares += change * change
            }
            let size = count > 0 ? (squares / Double(count)).squareRoot() : 0
            // A first round that changed nothing says nothing of a step's size: then steps are as the peers made them.
            guard size > 0 || state != nil else { return OuterState(learningRate: 0) }
            let isFirst = state == nil || state?.learningRate == 0
            let learningRate = isFirst ? given ?? size : state?.learningRate ?? size
            let tau = isFirst ? givenTau ?? size / 10 : state?.tau ?? size / 10
            if slots.isEmpty {
                slots = [[Float](repeating: 0, count: count), [Float](repeating: Float(tau * tau), count: count)]
            }
            for index in 0..<count {
                let change = Double(mean[index]) - Double(start[first + index])
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
                mean[index] = Float(Double(start[first + index]) + learningRate * moment / (max(0, second).squareRoot() + tau))
            }
            return OuterState(learningRate: learningRate, tau: tau)
        }
    }
}

/// What an ``OuterOptimizer`` remembers from round to round.
public struct OuterState: Codable, Hashable, Sendable {
    /// η, as it was said or found in the first round; nil where there is no optimizer, but a rule that remembers.
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
