import CohortCore

/// peer → events: the data set that ENABLE named is loaded.
public struct ReadyEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int

    public init(sessionId: String, peerId: String, generation: Int) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        sessionId = try container.name(.sessionId)
        peerId = try container.name(.peerId)
        generation = try container.whole(.generation, in: Bounds.generations)
    }
}
