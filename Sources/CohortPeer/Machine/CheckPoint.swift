import CohortCore
import CohortWire

/// A named moment of a peer's work, where a test may hold the peer (and kill it). Nothing in a release build listens.
public struct CheckPoint: Hashable, Sendable {
    public enum Name: String, Codable, Sendable, CaseIterable {
        /// ENABLED was answered and TRAIN accepted; nothing is loaded yet.
        case enabled
        /// Before the first batch of the round.
        case firstBatch
        /// Half way through the batches of an epoch.
        case midEpoch
        /// The round is trained; its update is not uploaded.
        case upload
        /// The update is uploaded; DONE is not sent.
        case done
    }

    public var name: Name
    public var sessionId: String
    public var round: Int
    /// Epochs of the round finished so far.
    public var epoch: Int

    public init(_ name: Name, sessionId: String, round: Int, epoch: Int) {
        self.name = name
        self.sessionId = sessionId
        self.round = round
        self.epoch = epoch
    }
}

extension TrainCommand {
    func checkPoint(_ name: CheckPoint.Name, epoch: Int) -> CheckPoint {
        CheckPoint(name, sessionId: work.sessionId, round: work.round, epoch: epoch)
    }
}
