import CohortCore

/// peer → events: the round could not be done.
public struct ErrorEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var round: Int
    /// A sentence for people, of at most 1,000 characters.
    public var message: String
    public var retryable: Bool

    public init(sessionId: String, peerId: String, generation: Int, round: Int, message: String, retryable: Bool) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.round = round
        self.message = message
        self.retryable = retryable
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        sessionId = try container.name(.sessionId)
        peerId = try container.name(.peerId)
        generation = try container.whole(.generation, in: Bounds.generations)
        round = try container.whole(.round, in: Bounds.rounds)
        message = try container.sentence(.message)
        retryable = try container.decode(Bool.self, forKey: .retryable)
    }
}
