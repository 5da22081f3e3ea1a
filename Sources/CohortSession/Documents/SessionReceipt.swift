public import CohortCore

/// The record of how a session's model was made: enough to compute the weights again from the updates, bit by bit.
public struct SessionReceipt: Codable, Sendable {
    public var sessionId: String
    public var settings: SessionSettings
    /// The SHA-256 of the uploaded data, hexadecimal.
    public var datasetSha256: String
    public var model: ModelSpec
    /// The streams behind the weights in updates: see ``StartingModel/streams``.
    public var streams: [String]
    /// Each of `streams` stands in the updates of every so many rounds, but for the last; absent: in all.
    public var streamPeriods: [Int]?
    /// The weights that training began with; absent: those that the seed means.
    public var start: ObjectReference?
    public var rounds: [Round]

    public struct Round: Codable, Sendable {
        public var round: Int
        public var outcome: RoundOutcome
        /// The contributions in the order of summation.
        public var contributions: [Contribution]
        /// The SHA-256 of the resulting weights file.
        public var weightsSha256: String
        public var validation: Metrics?
    }

    /// nil before there is a model, and of a session of a version that wrote none.
    public init?(_ session: Session, rounds: [RoundSummary]) {
        guard let dataset = session.dataset, let model = session.model else { return nil }
        sessionId = session.id
        settings = session.settings
        datasetSha256 = dataset.object.sha256
        self.model = model
        streams = session.streams ?? []
        streamPeriods = session.streamPeriods
        start = session.startWeights
        self.rounds = rounds.compactMap { round in
            guard let outcome = round.outcome, let contributions = round.contributions, let sha256 = round.weightsSha256 else {
                return nil
            }
            return Round(
                round: round.round, outcome: outcome, contributions: contributions, weightsSha256: sha256, validation: round.validation)
        }
        guard self.rounds.count == rounds.count else { return nil }
    }
}
