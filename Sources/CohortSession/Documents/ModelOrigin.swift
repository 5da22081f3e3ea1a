import CohortCore
public import FoundationEssentials

/// The origin of a model file: enough to train the model again and to judge it.
public struct ModelOrigin: Codable, Hashable, Sendable {
    /// Cohort's version.
    public var version: String
    public var sessionId: String
    public var startedAt: Date?
    /// The name of the uploaded file.
    public var filename: String
    /// The CSV's SHA-256, lowercase hexadecimal.
    public var csvSha256: String
    /// The user chose the target; else it is the last column.
    public var targetGiven: Bool
    /// The settings, with the seed, the hyperparameters and the column options.
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
