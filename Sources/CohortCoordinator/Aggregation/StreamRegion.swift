import CohortCore
import CohortSession

extension Aggregator {
    /// The weights of the updates in a region of a slice: for the model's parameters those of the round, for a stream without the discarded ones.
    struct StreamRegion {
        /// The factor of each row, in the order of the rows that are read.
        let scales: [Double]
        /// The weight of each row, in the same order. Their sum is that of the rows' own weights, whatever is discarded.
        let weights: [Double]

        /// - Parameters:
        ///   - position: in the layout's vector.
        ///   - rows: the shares whose rows are read.
        ///   - weights: of all shares.
        init(_ round: Round, at position: Int, rows: [Int], weights: [Double]) {
            let own = rows.map { weights[$0] }
            let stream = position / max(1, round.modelCount) - 1
            guard round.layout.streams.indices.contains(stream) else {
                scales = rows.map { _ in 1 }
                self.weights = own
                return
            }
            let name = round.layout.streams[stream]
            let found = rows.map { round.shares[$0].streamScales?[name] ?? 1 }
            scales = found
            let counted = zip(own, found).reduce(0) { $0 + ($1.1 > 0 ? $1.0 : 0) }
            let all = own.reduce(0, +)
            self.weights = zip(own, found).map { weight, scale in scale > 0 && counted > 0 ? weight * all / counted : 0 }
        }
    }
}

extension Aggregator.Combined {
    /// The model's parameters after the steps that the streams alone make: the distance that Adam's or SGD's momentum carries them when the
    /// gradient is 0, or ten steps of plain SGD along a control variate.
    func parametersMovedByStreams(_ settings: SessionSettings) -> [Float] {
        let (layout, optimizer) = (round.layout, settings.optimizer)
        let count = layout.model.parameterCount
        var moved = parameters
        func values(of stream: String) -> ArraySlice<Float>? {
            layout.streams.firstIndex(of: stream).map { self.values[((1 + $0) * count)..<((2 + $0) * count)] }
        }
        func move(_ stream: ArraySlice<Float>, by factor: (Int) -> Double) {
            for index in 0..<count { moved[index] -= Float(factor(index) * Double(stream[stream.startIndex + index])) }
        }
        if let moments = values(of: "exp_avg"), let squares = values(of: "exp_avg_sq") {
            let reach = settings.lr / max(1e-3, 1 - optimizer.beta1)
            move(moments) { reach / (Double(max(0, squares[squares.startIndex + $0])).squareRoot() + max(optimizer.epsilon, 1e-12)) }
        }
        if let velocity = values(of: "momentum_buffer") {
            let reach = settings.lr / max(1e-3, 1 - optimizer.momentum)
            move(velocity) { _ in reach }
        }
        if let variate = values(of: WeightsLayout.controlVariate) { move(variate) { _ in 10 * settings.lr } }
        return moved
    }
}
