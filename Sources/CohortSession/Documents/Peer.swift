public import CohortCore
public import CohortWire
public import FoundationEssentials

public enum PeerStatus: String, Codable, Sendable, CaseIterable {
    case online = "ONLINE"
    case training = "TRAINING"
    case offline = "OFFLINE"
}

public enum OfflineReason: String, Codable, Sendable {
    /// It said goodbye.
    case left
    case silent
}

/// A machine in the shared pool.
public struct Peer: Codable, Hashable, Sendable, Identifiable {
    public let id: String
    public var name: String
    /// The owner of its join token.
    public var ownerId: String
    public var tokenId: String
    public var capabilities: PeerCapabilities
    /// The users whose sessions it trains.
    public var serve: Pool
    public var status: PeerStatus
    /// The reason for which it is OFFLINE; nil: unknown, or not OFFLINE.
    public var offlineReason: OfflineReason?
    /// The session it is locked to, while TRAINING (or OFFLINE and not yet lost).
    public var sessionId: String?
    /// Rises with every registration: a beat of an earlier one is refused, so that a removed peer is not revived by a late beat.
    public var registration: Int
    public var registeredAt: Date
    public var lastSeen: Date

    public init(
        id: String, name: String, ownerId: String, tokenId: String, capabilities: PeerCapabilities, serve: Pool = .mine,
        status: PeerStatus = .online, offlineReason: OfflineReason? = nil,
        sessionId: String? = nil, registration: Int = 1, registeredAt: Date, lastSeen: Date
    ) {
        self.id = id
        self.name = name
        self.ownerId = ownerId
        self.tokenId = tokenId
        self.capabilities = capabilities
        self.serve = serve
        self.status = status
        self.offlineReason = offlineReason
        self.sessionId = sessionId
        self.registration = registration
        self.registeredAt = registeredAt
        self.lastSeen = lastSeen
    }
}
