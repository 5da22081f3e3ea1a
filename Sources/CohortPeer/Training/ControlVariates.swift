import CohortCore

/// SCAFFOLD's vectors of one round on one peer: see `Scaffold`.
struct ControlVariates {
    /// The mean of all peers' variates, and this peer's own of its last round that counted.
    let ofAll, own: [Float]

    /// The correction that each step subtracts beside its gradient: c − cᵢ.
    var correction: [Float] { zip(ofAll, own).map { $0 - $1 } }

    /// The mean gradient of the steps from `start` to `end`, which is the peer's variate from then on.
    /// - Parameter rates: the sum of the learning rates of all steps; 0: there was none, and the variate stays.
    func next(from start: [Float], to end: [Float], rates: Double) -> [Float] {
        guard rates > 0 else { return own }
        // Where they end is start − Σ lr·(g + c − cᵢ).
        return start.indices.map { index in
            let gradient = (Double(start[index]) - Double(end[index])) / rates
            return Float(gradient - Double(ofAll[index]) + Double(own[index]))
        }
    }
}
