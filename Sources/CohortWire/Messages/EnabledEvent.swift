import CohortCore

/// peer → events: attached to the session's events.
public struct EnabledEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int?
    public var capabilities: PeerCapabilities?
    /// It can train at once. false: it first loads the data set that ENABLE named, and then reports READY. Absent: true.
    public var ready: Bool?

    public init(sessionId: String, peerId: String, generation: Int?, capabilities: PeerCapabilities?, ready: Bool? = nil) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.capabilities = capabilities
        self.ready = ready
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        sessionId = try container.name(.sessionId)
        peerId = try container.name(.peerId)
        generation = try container.wholeIfPresent(.generation, in: Bounds.generations)
        capabilities = try container.decodeIfPresent(PeerCapabilities.self, forKey: .capabilities)
        ready = try container.decodeIfPresent(Bool.self, forKey: .ready)
    }
}
