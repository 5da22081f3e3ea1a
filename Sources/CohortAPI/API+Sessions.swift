public import CohortCore
public import CohortSession
public import CohortWire
public import FoundationEssentials

/// Sessions, as they start and run.
extension API {
    public struct SessionStarted: Codable, Sendable {
        public var sessionId: String
        public var status: SessionStatus
        public var peers: [SessionPeerView]
        public init(_ session: Session) {
            sessionId = session.id
            status = session.status
            peers = session.peers.map(SessionPeerView.init)
        }
    }

    /// The conditions for starting a session.
    public struct SessionCheck: Codable, Sendable {
        /// The number of peers that are free for it.
        public var free: Int
        /// `true` when the server has the same file from an earlier session of the user, so that `sha256` can replace the upload.
        public var isKnown: Bool
        public init(free: Int, isKnown: Bool) {
            self.free = free
            self.isKnown = isKnown
        }
    }

    public struct SessionPeerView: Codable, Sendable {
        public var id: String
        public var name: String
        public var state: SessionPeer.State
        public var engine: String
        public var device: String
        public var rows: Int
        public var epoch: Int
        public var progress: Double
        public var loss: Double?
        public var accuracy: Double?
        public var samplesPerSecond: Double?
        public var message: String?
        public init(_ peer: SessionPeer) {
            id = peer.id
            name = peer.name
            state = peer.state
            engine = peer.engine
            device = peer.device
            rows = peer.rows.reduce(0) { $0 + $1.count }
            epoch = peer.epoch
            progress = peer.progress
            loss = peer.loss
            accuracy = peer.accuracy
            samplesPerSecond = peer.samplesPerSecond
            message = peer.message
        }
    }

    public struct TrainingStatus: Codable, Sendable {
        public var sessionId: String
        public var name: String?
        /// The predicted column, once it is known.
        public var target: String?
        public var status: SessionStatus
        public var message: String
        /// 0 … 1.
        public var progress: Double
        public var round: Int
        public var rounds: Int
        /// The furthest peer's, in this round.
        public var epoch: Int
        public var waitingFor: String?
        public var error: String?
        public var peers: [SessionPeerView]
        public init(_ session: Session) {
            sessionId = session.id
            name = session.settings.name
            status = session.status
            target = session.dataset?.target
            message =
                switch session.status {
                case .pending: "Training is being prepared"
                case .running: "Training in progress"
                case .completed: "Training completed"
                case .failed: "Training failed"
                case .cancelled: "Training cancelled"
                }
            progress = session.progress
            round = session.round
            rounds = session.settings.rounds
            epoch = session.peers.map(\.epoch).max() ?? 0
            waitingFor = session.waitingFor
            error = session.error
            peers = session.peers.map(SessionPeerView.init)
        }
    }

    public struct SessionView: Codable, Sendable {
        public var id: String
        public var status: SessionStatus
        public var createdAt: Date
        public var startedAt: Date?
        public var endedAt: Date?
        public var settings: SessionSettings
        public var filename: String
        public var dataset: DatasetInfo?
        public var model: ModelSpec?
        public var progress: Double
        public var round: Int
        public var waitingFor: String?
        public var error: String?
        public var peers: [SessionPeerView]
        /// All closed rounds, oldest first; only in the answer for a single session.
        public var rounds: [RoundSummary]?
        /// Events, oldest first; only in the answer for a single session.
        public var events: [SessionEvent]?
        public var note: String?
        /// nil: none.
        public var tags: [String]?
        public init(_ session: Session, rounds: [RoundSummary]? = nil) {
            id = session.id
            status = session.status
            createdAt = session.createdAt
            startedAt = session.startedAt
            endedAt = session.endedAt
            settings = session.settings
            filename = session.filename
            dataset = session.dataset
            model = session.model
            progress = session.progress
            round = session.round
            waitingFor = session.waitingFor
            error = session.error
            peers = session.peers.map(SessionPeerView.init)
            self.rounds = rounds?.map(\.short)
            events = rounds == nil ? nil : session.events ?? []
            note = session.note
            tags = session.labels?.tags
        }
    }

    /// What its owner writes on a session, at any time.
    public struct Labels: Codable, Sendable {
        /// nil in a request: stays as it is.
        public var note: String?
        public var tags: [String]?
        public init(note: String? = nil, tags: [String]? = nil) {
            self.note = note
            self.tags = tags
        }
    }

    /// What a link to a session allows.
    public struct NewLink: Codable, Sendable {
        /// Whoever has the link may try the model. Default: false.
        public var allowsPredictions: Bool?
        /// Seconds until the link expires. Default: 30 days.
        public var expiresIn: Int?
        public init(allowsPredictions: Bool? = nil, expiresIn: Int? = nil) {
            self.allowsPredictions = allowsPredictions
            self.expiresIn = expiresIn
        }
    }

    /// A link with which people without an account see a session.
    public struct Link: Codable, Sendable {
        public var id: String
        public var createdAt: Date
        public var expiresAt: Date
        public var allowsPredictions: Bool
        /// The path of the page below the server's address; only in the answer that makes the link.
        public var path: String?
        public init(_ link: SharedLink, path: String? = nil) {
            id = link.id
            createdAt = link.createdAt
            expiresAt = link.expiresAt
            allowsPredictions = link.allowsPredictions
            self.path = path
        }
    }
}
