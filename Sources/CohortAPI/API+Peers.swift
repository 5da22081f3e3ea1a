public import CohortCore
public import CohortSession
public import CohortWire
public import FoundationEssentials

/// Messages of peers to the server, and the view of peers for users.
extension API {
    /// A peer registers. `id` is what it was given the first time (kept in its data folder), absent at first.
    public struct Registration: Codable, Sendable {
        public var id: String?
        public var name: String
        public var capabilities: PeerCapabilities
        /// The users whose sessions it trains; absent: its owner.
        public var serve: Pool?
        /// The credential of the previous registration, required with `id`: it proves that the id belongs to this machine.
        public var credential: String?
        /// The requested transport: `http` (the same as absent) or `amqp`.
        public var transport: BrokerAddress.Kind?
        public init(
            id: String?, name: String, capabilities: PeerCapabilities, serve: Pool? = nil, credential: String? = nil,
            transport: BrokerAddress.Kind? = nil
        ) {
            self.transport = transport
            self.serve = serve
            self.credential = credential
            self.id = id
            self.name = name
            self.capabilities = capabilities
        }
    }

    /// The answer to a registration: the peer's identity, and the broker to connect to.
    public struct Registered: Codable, Sendable {
        public var peerId: String
        /// The name in the pool: the requested one, or that with a number when another peer has it.
        public var name: String?
        public var registration: Int
        /// The bearer token of this peer: every other `/peers/{id}/…` request needs it. The join token only registers.
        public var credential: String
        /// The owner of the join token.
        public var ownerId: String?
        /// The broker for its messages.
        public var broker: BrokerAddress
        /// Seconds between presence beats; a peer varies them by ± 20 %.
        public var heartbeatInterval: Double
        public init(
            peerId: String, name: String? = nil, registration: Int, credential: String, broker: BrokerAddress, heartbeatInterval: Double,
            ownerId: String? = nil
        ) {
            self.ownerId = ownerId
            self.peerId = peerId
            self.name = name
            self.registration = registration
            self.credential = credential
            self.broker = broker
            self.heartbeatInterval = heartbeatInterval
        }
    }

    /// A presence beat. 409 when the registration is no longer the peer's: register again.
    public struct Beat: Codable, Sendable {
        public var registration: Int
        /// Acknowledges commands of the stream up to and including this id as well.
        public var through: Int?
        public init(registration: Int, through: Int? = nil) {
            self.registration = registration
            self.through = through
        }
    }

    /// Acknowledges commands of the stream up to and including this id.
    public struct CommandAcknowledgement: Codable, Sendable {
        public var through: Int
        public init(through: Int) { self.through = through }
    }

    public struct PeerView: Codable, Sendable {
        public var id: String
        public var name: String
        public var status: PeerStatus
        public var cores: Int
        public var memoryBytes: Int
        public var engine: String
        public var device: String
        public var samplesPerSecond: Double
        public var platform: String
        public var lastSeen: Date
        /// `true` when it joined with a token of the requesting user.
        public var mine: Bool
        /// The users whose sessions it trains.
        public var serve: Pool
        public init(_ peer: Peer, mine: Bool) {
            id = peer.id
            name = peer.name
            status = peer.status
            cores = peer.capabilities.cores
            memoryBytes = peer.capabilities.memoryBytes
            engine = peer.capabilities.engine
            device = peer.capabilities.device
            samplesPerSecond = peer.capabilities.samplesPerSecond
            platform = peer.capabilities.platform
            lastSeen = peer.lastSeen
            self.mine = mine
            serve = peer.serve
        }
    }

    /// An event of `GET /peers/events`.
    public struct PeersChange: Codable, Sendable {
        /// `true`: `changed` has all peers, and others that were known are gone.
        public var all: Bool?
        /// Peers that are new or different. Of those that are online, `last_seen` is the time of the registration.
        public var changed: [PeerView]
        /// Ids of peers that are not there any more.
        public var gone: [String]?
        public init(all: Bool?, changed: [PeerView], gone: [String]?) {
            self.all = all
            self.changed = changed
            self.gone = gone
        }
    }
}
