/// Remembers the best weights by validation loss, and says when there has been nothing better for `patience` epochs.
struct EarlyStopping {
    let patience: Int
    private(set) var weights: [Float]?
    private var best = Double.infinity
    private var epochsSince = 0

    init(patience: Int) { self.patience = patience }

    mutating func shouldStop(after loss: Double, weights current: () throws -> [Float]) rethrows -> Bool {
        if loss < best {
            best = loss
            weights = try current()
            epochsSince = 0
        } else {
            epochsSince += 1
        }
        return epochsSince >= patience
    }
}
