public import FoundationEssentials

/// Where a model file comes from: enough to train it again, and to know what it is worth.
public struct ModelOrigin: Codable, Hashable, Sendable {
    /// Of Cohort.
    public var version: String
    public var sessionId: String
    public var startedAt: Date?
    /// As uploaded.
    public var filename: String
    /// Of the CSV, lowercase hexadecimal.
    public var csvSha256: String
    /// Whether a person chose the target; else it is the last column.
    public var targetGiven: Bool
    /// With the seed, the hyperparameters and what was said of the columns.
    public var settings: SessionSettings
    public var rounds: Int
    public var peers: [Contributor]

    public struct Contributor: Codable, Hashable, Sendable {
        public var name: String
        public var engine: String
        public var device: String
        /// Samples trained on over all rounds.
        public var trainedSamples: Int
    }

    /// nil for a session without a data set.
    public init?(_ session: Session) {
        guard let dataset = session.dataset else { return nil }
        version = CohortVersion.current
        sessionId = session.id
        startedAt = session.startedAt
        filename = session.filename
        csvSha256 = dataset.object.sha256
        targetGiven = session.settings.target != nil
        settings = session.settings
        rounds = min(session.round, session.settings.rounds)
        peers = session.peers.filter { $0.trainedSamples > 0 }.map {
            Contributor(name: $0.name, engine: $0.engine, device: $0.device, trainedSamples: $0.trainedSamples)
        }
    }
}
