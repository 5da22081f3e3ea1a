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

/// The description of a machine in its registration.
public struct PeerCapabilities: Codable, Hashable, Sendable {
    public var cores: Int
    public var memoryBytes: Int
    /// `native`, `torch`.
    public var engine: String
    /// `cpu`, `cuda:0`.
    public var device: String
    /// Measured once on a fixed small net (64-128-64-10, batch 64).
    public var samplesPerSecond: Double
    /// The number of parameters of that net.
    public static let measuredParameters = 17_226
    /// Operating system and architecture.
    public var platform: String
    public var version: String
    /// The users whose modules, which are code, it runs; absent: none, as its engine trains none.
    public var modules: Pool?

    public init(
        cores: Int, memoryBytes: Int, engine: String, device: String, samplesPerSecond: Double, platform: String, version: String,
        modules: Pool? = nil
    ) {
        self.modules = modules
        self.cores = cores
        self.memoryBytes = memoryBytes
        self.engine = engine
        self.device = device
        self.samplesPerSecond = samplesPerSecond
        self.platform = platform
        self.version = version
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        cores = try container.whole(.cores, in: 1...65_536)
        memoryBytes = try container.whole(.memoryBytes, in: 1...(1 << 60))
        engine = try container.decode(String.self, forKey: .engine).printable(max: 64)
        device = try container.decode(String.self, forKey: .device).printable(max: 64)
        samplesPerSecond = try container.number(.samplesPerSecond, in: 1e-3...1e9)
        platform = try container.decode(String.self, forKey: .platform).printable(max: 200)
        version = try container.decode(String.self, forKey: .version).printable(max: 64)
        modules = try container.decodeIfPresent(Pool.self, forKey: .modules)
    }
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
