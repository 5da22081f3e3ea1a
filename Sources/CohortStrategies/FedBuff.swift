public import CohortCore
public import CohortSession

/// Buffered asynchronous averaging (Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022, arXiv 2106.06639): a round
/// closes when K answers are in, ``SessionSettings/bufferSize``, and the other peers train on; their change of the weights that they began with
/// is added to the round in which it arrives, scaled by 1/√(1 + τ), τ being the rounds that closed meanwhile. A slow machine delays no other, and
/// what it learns counts.
///
/// All machines get as many rows, another part each round, so that the slow ones' rows are trained on by others as well; the fast ones train more
/// rounds. K is half of the machines by default; 1 is wholly asynchronous. The mean is by the rows trained on, as ``SessionSettings/weighting``
/// says; the paper's is uniform, which equal shares make of it. The server's rate is 1.
///
/// A round trains on K of n shares: for as many passes over the rows it takes n / K times the rounds, as many as are chosen
/// by default. The round of an answer depends on the machines, so no session can be repeated bit by bit. Each machine keeps its optimizer's
/// moments: an average of some would be of
/// different ages.
public struct FedBuff: RoundsOfShares {
    public static let name = "fedbuff"
    public static let title = "Without waiting"
    public static let purpose = StrategyPurpose.unequalSpeed
    public static let summary =
        "As fedavg, but a round closes when some machines have answered, and the others' answers count later: for machines of very different speed. Every machine gets to see every row."

    public init() {}

    public var settings: Set<String> { ["weighting", "buffer_size"] }
    public var optimizerMemory: OptimizerMemory? { .keep }
    public var leavesOutLate: Bool { false }
    public var dealsBySpeed: Bool { false }

    public func bufferSize(_ settings: SessionSettings, peers: Int) -> Int? { min(settings.bufferSize ?? (peers + 1) / 2, peers) }

    public func recipe(_ settings: SessionSettings) -> WorkRecipe { WorkRecipe(proximalMu: settings.proximalMu, sendsChange: true) }

    public func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
        let shares = Sharding.proportional(trainingRows, weights: peers.map { _ in 1 })
        return peers.indices.map { [shares[($0 + round) % shares.count]].filter { $0.count > 0 } }
    }

    public func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
        var shares = Self.shares(of: answers, by: settings.weighting ?? .samples)
        for (index, answer) in answers.enumerated() { shares[index].scale = 1 / Double(1 + max(0, answer.staleness)).squareRoot() }
        return .average(shares)
    }

    public func notes(_ settings: SessionSettings) -> [String] {
        let size = bufferSize(settings, peers: settings.peers) ?? 1
        return size < settings.peers
            ? [
                "each round closes after \(size) of \(settings.peers) answers: \(settings.rounds) rounds are about \(settings.rounds * size / settings.peers) passes over the rows, times epochs"
            ]
            : []
    }
}
