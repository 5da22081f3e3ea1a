public import FoundationEssentials

/// The bodies of the HTTP API, shared by server and client.
public enum API {
    public struct Signup: Codable, Sendable {
        public var email: String
        public var password: String
        public var name: String?
        public init(email: String, password: String, name: String?) {
            self.email = email
            self.password = password
            self.name = name
        }
    }

    public struct Signin: Codable, Sendable {
        public var email: String
        public var password: String
        public init(email: String, password: String) {
            self.email = email
            self.password = password
        }
    }

    public struct AccessToken: Codable, Sendable {
        public var accessToken: String
        public var tokenType: String
        /// Seconds.
        public var expiresIn: Int
        public init(accessToken: String, expiresIn: Int) {
            self.accessToken = accessToken
            self.tokenType = "bearer"
            self.expiresIn = expiresIn
        }
    }

    public struct Account: Codable, Sendable {
        public var id: String
        public var email: String
        public var name: String
        public var createdAt: Date
        public init(_ user: User) {
            id = user.id
            email = user.email
            name = user.name
            createdAt = user.createdAt
        }
    }

    public struct NewToken: Codable, Sendable {
        public var name: String?
        /// Seconds; nil: does not expire.
        public var expiresIn: Int?
        public init(name: String? = nil, expiresIn: Int? = nil) {
            self.name = name
            self.expiresIn = expiresIn
        }
    }

    /// A join token, or one of the list, where `token` is absent: it is shown once.
    public struct Token: Codable, Sendable {
        public var id: String
        public var name: String
        public var createdAt: Date
        public var expiresAt: Date?
        public var revokedAt: Date?
        public var token: String?
        public init(_ record: JoinToken, token: String? = nil) {
            id = record.id
            name = record.name
            createdAt = record.createdAt
            expiresAt = record.expiresAt
            revokedAt = record.revokedAt
            self.token = token
        }
    }

    /// A peer registers. `id` is what it was given the first time (kept in its data folder), absent at first.
    public struct Registration: Codable, Sendable {
        public var id: String?
        public var name: String
        public var capabilities: PeerCapabilities
        /// Whose sessions it trains; absent: its owner's.
        public var serve: Pool?
        /// With `id`: the credential of the registration before, which shows that the id is this machine's.
        public var credential: String?
        public init(
            id: String?, name: String, capabilities: PeerCapabilities, serve: Pool? = nil, credential: String? = nil
        ) {
            self.serve = serve
            self.credential = credential
            self.id = id
            self.name = name
            self.capabilities = capabilities
        }
    }

    /// What a peer is told when it registers: who it is, and what to talk to.
    public struct Registered: Codable, Sendable {
        public var peerId: String
        public var registration: Int
        /// The bearer token of this peer: every other `/peers/{id}/…` request needs it. The join token only registers.
        public var credential: String
        /// `embedded` (commands stream from and events go to this server), or another transport's name in `broker`.
        public var broker: BrokerAddress
        /// Seconds between presence beats; a peer varies them by ± 20 %.
        public var heartbeatInterval: Double
        public init(peerId: String, registration: Int, credential: String, broker: BrokerAddress, heartbeatInterval: Double) {
            self.peerId = peerId
            self.registration = registration
            self.credential = credential
            self.broker = broker
            self.heartbeatInterval = heartbeatInterval
        }
    }

    public struct BrokerAddress: Codable, Sendable {
        /// `embedded`, `amqp`.
        public var kind: String
        public var url: String?
        public init(kind: String, url: String? = nil) {
            self.kind = kind
            self.url = url
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

    /// What became of several events sent together: those not named were taken over.
    public struct EventsTaken: Codable, Sendable {
        public var refused: [Refused]
        public init(refused: [Refused]) { self.refused = refused }

        public struct Refused: Codable, Sendable {
            /// Line of the body, from 0.
            public var line: Int
            public var code: String
            public var detail: String
            public init(line: Int, code: String, detail: String) {
                self.line = line
                self.code = code
                self.detail = detail
            }
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
        /// Whether it came with a token of the asking user.
        public var mine: Bool
        /// Whose sessions it trains.
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
        /// What is predicted, once that is known.
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
        /// Of one session: all closed rounds, oldest first; in a list of sessions absent.
        public var rounds: [RoundSummary]?
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
            self.rounds = rounds
        }
    }

    public struct Results: Codable, Sendable {
        public var sessionId: String
        public var status: SessionStatus
        public var metrics: Metrics
        public var peers: [Peer]
        public var rounds: Int
        public var seconds: Double
        public var rows: RowUse?
        public var bestPeer: String?
        /// Of the model, as the peers reported it; `metrics` is what the server measured, where it could.
        public var reported: Metrics?
        public var strategy: String
        public var target: String?
        public var task: LearningTask?
        /// Whether a person chose the target; else it is the last column.
        public var targetGiven: Bool
        public var seed: UInt64
        /// What a person should know of the data.
        public var warnings: [String]
        /// In detail, as the server measured it; absent where it could not.
        public var evaluation: Evaluation?
        /// Regression: √loss × this is a root mean squared error in the target's unit.
        public var targetStd: Double?
        /// Closed rounds, oldest first, with training and validation loss.
        public var history: [RoundSummary]

        /// Like ``CohortCore/PeerResult``, with the metrics beside the rest.
        public struct Peer: Codable, Sendable {
            public var id: String
            public var name: String
            public var engine: String
            public var device: String
            public var state: SessionPeer.State
            public var loss: Double?
            public var accuracy: Double?
            public var r2: Double?
            public var samples: Int
            public var samplesPerSecond: Double?
            public var trainedSamples: Int
            public var message: String?
        }

        public init(_ session: Session, _ results: SessionResults, history: [RoundSummary]) {
            sessionId = session.id
            status = session.status
            strategy = session.settings.strategy
            target = session.dataset?.target
            task = session.dataset?.task
            targetGiven = session.settings.target != nil
            seed = session.settings.seed
            targetStd = session.dataset?.targetStd
            warnings = session.dataset?.warnings ?? []
            evaluation = results.evaluation
            self.history = history
            metrics = results.metrics
            rounds = results.rounds
            seconds = results.seconds
            rows = results.rows
            bestPeer = results.bestPeer
            reported = results.reported
            peers = results.peers.map {
                Peer(
                    id: $0.id, name: $0.name, engine: $0.engine, device: $0.device, state: $0.state, loss: $0.metrics.loss,
                    accuracy: $0.metrics.accuracy, r2: $0.metrics.r2, samples: $0.metrics.samples,
                    samplesPerSecond: $0.samplesPerSecond, trainedSamples: $0.trainedSamples, message: $0.message)
            }
        }
    }

    public struct Prediction: Codable, Sendable {
        /// Class labels, or numbers in the target's own units.
        public var predictions: [Value]
        /// Classification: class label → probability, a row each.
        public var probabilities: [[String: Double]]?
        public init(predictions: [Value], probabilities: [[String: Double]]?) {
            self.predictions = predictions
            self.probabilities = probabilities
        }
    }

    /// A JSON scalar: what a cell of a table can be.
    public enum Value: Codable, Hashable, Sendable {
        case null
        case bool(Bool)
        case number(Double)
        case text(String)

        public init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .null
            } else if let bool = try? container.decode(Bool.self) {
                self = .bool(bool)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else if let text = try? container.decode(String.self) {
                self = .text(text)
            } else {
                throw DecodingError.dataCorruptedError(
                    in: container, debugDescription: "a number, text, true, false or null was expected")
            }
        }

        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .null: try container.encodeNil()
            case .bool(let value): try container.encode(value)
            case .number(let value): try container.encode(value)
            case .text(let value): try container.encode(value)
            }
        }

        /// As a CSV cell has it; nil for null.
        public var cell: String? {
            switch self {
            case .null: nil
            case .bool(let value): value ? "true" : "false"
            case .number(let value): value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
            case .text(let value): value
            }
        }
    }

    public struct PredictRequest: Codable, Sendable {
        /// Objects by column name.
        public var rows: [[String: Value]]
        /// Whether columns that no row has count as missing values; else they are an error.
        public var allowMissing: Bool?
        public init(rows: [[String: Value]], allowMissing: Bool? = nil) {
            self.rows = rows
            self.allowMissing = allowMissing
        }
    }

    /// RFC 9457, `application/problem+json`.
    public struct Problem: Codable, Sendable {
        public var type: String
        public var title: String
        public var status: Int
        public var detail: String
        public var code: String
        public init(title: String, status: Int, detail: String, code: String) {
            self.type = "about:blank"
            self.title = title
            self.status = status
            self.detail = detail
            self.code = code
        }
    }
}
