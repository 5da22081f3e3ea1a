/// The default duration and step size of a session: with few rows, or with many peers that share them, there are still enough steps to learn.
public struct WorkChoice: Hashable, Sendable {
    /// The names of the settings that are chosen.
    public static let names = ["rounds", "epochs", "batch_size"]

    /// Steps of the optimizer that a peer should make over the session.
    static let steps = 400
    /// Rounds, or epochs of a peer that trains a separate model.
    static let passes = 10...100
    static let batches = [32, 16, 8]
    /// Steps that an epoch should have, before the batch becomes smaller.
    static let stepsOfEpoch = 8

    public let rounds: Int
    public let epochs: Int
    public let batchSize: Int

    /// - Parameters:
    ///   - settings: whose ``SessionSettings/automatic`` names what is to be chosen; the others stay.
    ///   - rows: to train on.
    ///   - peers: the peers that share the rows; with own models each has all.
    ///   - answers: the number of answers that close a round; nil: all.
    public init(_ settings: SessionSettings, ofOwnModels: Bool, rows: Int, peers: Int, answers: Int? = nil) {
        func isChosen(_ name: String) -> Bool { settings.automatic?.contains(name) == true }
        let share = ofOwnModels ? rows : rows / max(1, peers)
        let batch =
            isChosen("batch_size")
            ? Self.batches.first { share >= $0 * Self.stepsOfEpoch } ?? Self.batches[Self.batches.count - 1] : settings.batchSize
        let steps = max(1, (share + batch - 1) / max(1, batch))
        func passes(of steps: Int) -> Int {
            min(max((Self.steps - 1) / max(1, steps) + 1, Self.passes.lowerBound), Self.passes.upperBound)
        }
        batchSize = batch
        epochs = !isChosen("epochs") || settings.localSteps != nil ? settings.epochs : ofOwnModels ? passes(of: steps) : 1
        let (ofRound, overflow) = steps.multipliedReportingOverflow(by: max(1, epochs))
        let passes = ofOwnModels ? 1 : passes(of: settings.localSteps ?? (overflow ? .max : ofRound))
        // A round trains on so many of all shares.
        let answers = max(1, min(answers ?? peers, peers))
        rounds = !isChosen("rounds") ? settings.rounds : (passes * max(1, peers) + answers - 1) / answers
    }
}
