public import CohortCore

/// peer → events: after each epoch.
public struct HeartbeatEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var round: Int
    /// Epochs finished in this round, from 1.
    public var epoch: Int
    public var loss: Double
    /// Classification, 0 … 1; absent for regression.
    public var accuracy: Double?
    public var samplesPerSecond: Double?
    /// The progress of the round, 0 … 1.
    public var progress: Double?
    /// Own model on the validation rows; when it evaluates every epoch.
    public var validation: Metrics?

    public init(
        sessionId: String, peerId: String, generation: Int, round: Int, epoch: Int, loss: Double, accuracy: Double?,
        samplesPerSecond: Double?, progress: Double?, validation: Metrics? = nil
    ) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.round = round
        self.epoch = epoch
        self.loss = loss
        self.accuracy = accuracy
        self.samplesPerSecond = samplesPerSecond
        self.progress = progress
        self.validation = validation
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        sessionId = try container.name(.sessionId)
        peerId = try container.name(.peerId)
        generation = try container.whole(.generation, in: Bounds.generations)
        round = try container.whole(.round, in: Bounds.rounds)
        epoch = try container.whole(.epoch, in: Bounds.epochs)
        loss = try container.magnitude(.loss)
        accuracy = try container.numberIfPresent(.accuracy, in: Bounds.share)
        samplesPerSecond = try container.numberIfPresent(.samplesPerSecond, in: Bounds.rate)
        progress = try container.numberIfPresent(.progress, in: Bounds.share)
        validation = try container.decodeIfPresent(Metrics.self, forKey: .validation)
    }
}
