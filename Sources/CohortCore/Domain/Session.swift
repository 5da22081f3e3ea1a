public import FoundationEssentials

public enum SessionStatus: String, Codable, Sendable, CaseIterable {
    case pending = "PENDING"
    case running = "RUNNING"
    case completed = "COMPLETED"
    case failed = "FAILED"
    case cancelled = "CANCELLED"

    public var isFinal: Bool { self == .completed || self == .failed || self == .cancelled }
}

/// An object in the store, with what proves it whole.
public struct ObjectReference: Codable, Hashable, Sendable {
    public var key: String
    /// Lowercase hexadecimal.
    public var sha256: String
    public var bytes: Int

    public init(key: String, sha256: String, bytes: Int) {
        self.key = key
        self.sha256 = sha256
        self.bytes = bytes
    }
}

/// Who runs a session now. A coordinator whose generation is not the session's is fenced off.
public struct Lease: Codable, Hashable, Sendable {
    /// Which coordinator; the same after its restart on the same data folder.
    public var owner: String
    public var expiresAt: Date

    public init(owner: String, expiresAt: Date) {
        self.owner = owner
        self.expiresAt = expiresAt
    }
}

/// The data set of a session.
public struct DatasetInfo: Codable, Hashable, Sendable {
    /// As uploaded, for people.
    public var filename: String
    /// `s3://BUCKET/TIMESTAMP.csv`.
    public var csvLink: String
    public var object: ObjectReference
    public var schema: TableSchema
    /// What a person should know of the data: ignored columns, dropped rows.
    public var warnings: [String]

    public init(filename: String, csvLink: String, object: ObjectReference, schema: TableSchema, warnings: [String]) {
        self.filename = filename
        self.csvLink = csvLink
        self.object = object
        self.schema = schema
        self.warnings = warnings
    }
}

/// A peer's place in a session.
public struct SessionPeer: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable {
        /// Locked; not answered ENABLE yet.
        case locked
        /// Attached, and loads the data set: it is dealt rows once it has it.
        case loading
        /// Attached; between rounds.
        case ready
        case training
        /// Answered for this round.
        case done
        /// Silent too long, or removed.
        case lost
        /// Said ERROR that cannot be retried.
        case failed
    }

    public var id: String
    public var name: String
    public var engine: String
    public var device: String
    /// The peer's registration that was last told what to do; another one means that it restarted and lost its work.
    public var registration: Int
    /// Speed class used to deal shares: the registered samples/s, quantized, so that the same machines get the same shares; corrected by
    /// what its answers show.
    public var speed: Double
    /// How far its answers are from its speed class, in octaves, smoothed; nil: nothing measured yet.
    public var drift: Double?
    public var state: State
    public var epoch: Int
    /// Of this round, 0 … 1.
    public var progress: Double
    public var loss: Double?
    public var accuracy: Double?
    public var samplesPerSecond: Double?
    /// Training rows leased to it this round.
    public var rows: [RowRange]
    /// Validation rows it evaluates this round.
    public var validationRows: RowRange?
    /// Its answer of this round.
    public var answer: PeerAnswer?
    /// Of the work that it was asked for last.
    public var attempt: Int?
    /// Rounds in a row in which it gave no sign of work.
    public var misses: Int?
    /// Samples trained on so far, over all rounds.
    public var trainedSamples: Int
    public var message: String?

    public init(
        id: String, name: String, engine: String, device: String, registration: Int, speed: Double, state: State = .locked
    ) {
        self.id = id
        self.name = name
        self.engine = engine
        self.device = device
        self.registration = registration
        self.speed = speed
        self.state = state
        self.epoch = 0
        self.progress = 0
        self.rows = []
        self.trainedSamples = 0
    }

    /// A place for a registered peer. Its speed is rounded to a half octave (a factor of √2), so that machines alike get shares alike
    /// and a session can be repeated bit by bit.
    public init(_ peer: Peer) {
        self.init(
            id: peer.id, name: peer.name, engine: peer.capabilities.engine, device: peer.capabilities.device,
            registration: peer.registration, speed: Self.speedClass(of: peer.capabilities.samplesPerSecond))
    }

    /// Samples/s rounded to a half octave, from 1 to 2^30.
    public static func speedClass(of rate: Double) -> Double {
        let measured = rate.isFinite ? min(max(rate, 1), 0x1p30) : 1
        let halfOctave = measured.significand < 0x1.306fep0 ? 1.0 : measured.significand < 0x1.ae89fp0 ? 2.0.squareRoot() : 2.0
        return Double(sign: .plus, exponent: measured.exponent, significand: halfOctave)
    }

    /// Still counted on.
    public var isAlive: Bool { state != .lost && state != .failed }

    /// Has something to do in this round.
    public var hasWork: Bool { !rows.isEmpty || validationRows != nil }

    /// Training rows leased to it this round.
    public var rowCount: Int { rows.reduce(0) { $0 + $1.count } }
}

/// Half-open positions `start ..< end` in the session's permutation of the training rows, or in the validation rows.
public struct RowRange: Codable, Hashable, Sendable {
    public var start: Int
    public var end: Int

    public init(start: Int, end: Int) {
        self.start = start
        self.end = end
    }

    public var count: Int { end - start }
}

/// What a peer's DONE said.
public struct PeerAnswer: Codable, Hashable, Sendable {
    public var round: Int
    public var results: DoneResults
    public var update: ObjectReference?
    public var answeredAt: Date
    /// Since the round began, on the run's clock.
    public var seconds: Double?
    /// L2, of the step from the round's weights.
    public var norm: Double?
    /// Of its own model, on held-out rows, by the coordinator itself.
    public var measured: Counts?

    public init(
        round: Int, results: DoneResults, update: ObjectReference?, answeredAt: Date, seconds: Double? = nil, norm: Double? = nil,
        measured: Counts? = nil
    ) {
        self.seconds = seconds
        self.norm = norm
        self.measured = measured
        self.round = round
        self.results = results
        self.update = update
        self.answeredAt = answeredAt
    }
}

/// An accepted answer as it is recorded until its round is closed.
public struct RecordedAnswer: Codable, Hashable, Sendable {
    public var peerId: String
    public var generation: Int
    /// Of the work that it answers.
    public var attempt: Int?
    public var answer: PeerAnswer
    /// The update file, when it came in the message and is nowhere else.
    public var updateData: Data?

    public init(peerId: String, generation: Int, attempt: Int? = nil, answer: PeerAnswer, updateData: Data?) {
        self.attempt = attempt
        self.peerId = peerId
        self.generation = generation
        self.answer = answer
        self.updateData = updateData
    }
}

/// One training run: the document that is its truth.
public struct Session: Codable, Hashable, Sendable, Identifiable {
    public let id: String
    public var ownerId: String
    public var createdAt: Date
    public var startedAt: Date?
    public var endedAt: Date?
    public var status: SessionStatus
    public var settings: SessionSettings
    public var peers: [SessionPeer]
    /// The uploaded CSV on the API server's disk until it is in the object store.
    public var uploadPath: String?
    public var filename: String
    public var dataset: DatasetInfo?
    public var model: ModelSpec?
    public var generation: Int
    public var lease: Lease?
    /// The round being worked on, from 0; equal to `settings.rounds` during the last evaluation.
    public var round: Int
    /// When the round's TRAIN went out; nil between rounds.
    public var roundStartedAt: Date?
    /// Attempts at work given out so far; the next has this number.
    public var attempts: Int?
    /// Of its data set in the object store: its own from the start on.
    public var datasetKey: String?
    /// Its peers are being claimed; nobody was told of it yet.
    public var isStarting: Bool?
    /// Its final status is stored; peers, queue and leftovers are still to be freed.
    public var isEnding: Bool?
    /// The global weights the current round starts from; nil in round 0.
    public var weights: ObjectReference?
    public var best: Checkpoint?
    public var checkpoints: [Checkpoint]
    /// The newest closed round; all of them stand beside the document, so that it stays small however many there are.
    public var lastRound: RoundSummary?
    public var ledger: RowLedger?
    /// Norms of accepted updates, newest last, for the running median.
    public var updateNorms: [Double]
    public var waitingFor: String?
    /// Why it FAILED, for people.
    public var error: String?
    /// A person asked to cancel; whoever runs the session carries it out.
    public var cancelRequested: Bool
    public var results: SessionResults?
    /// Of the final model, as the peers reported it.
    public var reported: Metrics?
    public var modelObject: ObjectReference?
    /// Rises with every stored change; an update of another revision is refused.
    public var revision: Int

    public init(
        id: String, ownerId: String, createdAt: Date, settings: SessionSettings, peers: [SessionPeer], uploadPath: String?,
        filename: String
    ) {
        self.id = id
        self.ownerId = ownerId
        self.createdAt = createdAt
        self.status = .pending
        self.settings = settings
        self.peers = peers
        self.uploadPath = uploadPath
        self.filename = filename
        self.generation = 0
        self.round = 0
        self.checkpoints = []
        self.updateNorms = []
        self.cancelRequested = false
        self.revision = 0
    }

    /// The queue its coordinator listens on.
    public var eventQueue: QueueName { .events(sessionId: id) }
}

/// Global weights after a round.
public struct Checkpoint: Codable, Hashable, Sendable {
    public var round: Int
    public var weights: ObjectReference
    /// On the validation rows, or a sample of them: as this process measured, else as the peers reported.
    public var validation: Metrics?
    /// Measured by the coordinator itself.
    public var isMeasured: Bool?

    public init(round: Int, weights: ObjectReference, validation: Metrics? = nil) {
        self.round = round
        self.weights = weights
        self.validation = validation
    }
}

public struct RoundSummary: Codable, Hashable, Sendable {
    public var round: Int
    public var seconds: Double
    /// Mean over the peers' samples of the last local epoch.
    public var training: Metrics?
    /// Of the weights after this round.
    public var validation: Metrics?
    public var answered: [String]
    /// Peer name → why its answer is not in.
    public var dropped: [String: String]

    public init(
        round: Int, seconds: Double, training: Metrics?, validation: Metrics? = nil, answered: [String], dropped: [String: String]
    ) {
        self.round = round
        self.seconds = seconds
        self.training = training
        self.validation = validation
        self.answered = answered
        self.dropped = dropped
    }
}

public struct SessionResults: Codable, Hashable, Sendable {
    /// Of the model that came out, on the validation rows.
    public var metrics: Metrics
    public var peers: [PeerResult]
    public var rounds: Int
    public var seconds: Double
    /// How often training rows were trained on.
    public var rows: RowUse?
    /// `independent`: whose model was chosen.
    public var bestPeer: String?
    /// As the peers reported it; `metrics` is what the server measured, where it could.
    public var reported: Metrics?

    public init(
        metrics: Metrics, peers: [PeerResult], rounds: Int, seconds: Double, rows: RowUse?, bestPeer: String? = nil,
        reported: Metrics? = nil
    ) {
        self.reported = reported
        self.metrics = metrics
        self.peers = peers
        self.rounds = rounds
        self.seconds = seconds
        self.rows = rows
        self.bestPeer = bestPeer
    }
}

public struct PeerResult: Codable, Hashable, Sendable {
    public var id: String
    public var name: String
    public var engine: String
    public var device: String
    public var state: SessionPeer.State
    public var metrics: Metrics
    public var samplesPerSecond: Double?
    /// Samples trained on over all rounds.
    public var trainedSamples: Int
    public var message: String?

    public init(
        id: String, name: String, engine: String, device: String, state: SessionPeer.State, metrics: Metrics,
        samplesPerSecond: Double?, trainedSamples: Int, message: String?
    ) {
        self.id = id
        self.name = name
        self.engine = engine
        self.device = device
        self.state = state
        self.metrics = metrics
        self.samplesPerSecond = samplesPerSecond
        self.trainedSamples = trainedSamples
        self.message = message
    }
}

public struct RowUse: Codable, Hashable, Sendable {
    public var rows: Int
    /// Fewest and most times any row was trained on.
    public var least: Int
    public var most: Int
    public var mean: Double

    public init(rows: Int, least: Int, most: Int, mean: Double) {
        self.rows = rows
        self.least = least
        self.most = most
        self.mean = mean
    }
}

/// How often each position of the permutation was trained on: a run-length list, so that it stays small whatever the row count.
public struct RowLedger: Codable, Hashable, Sendable {
    /// Runs in order; they cover 0 ..< rows without gaps.
    public private(set) var runs: [Run]

    public struct Run: Codable, Hashable, Sendable {
        public var end: Int
        public var count: Int
    }

    public init(rows: Int) { runs = rows > 0 ? [Run(end: rows, count: 0)] : [] }

    /// Counts `epochs` passes over `range`.
    public mutating func add(_ range: RowRange, epochs: Int) {
        guard range.count > 0, epochs > 0 else { return }
        var result: [Run] = []
        func append(end: Int, count: Int, after start: Int) {
            guard end > start else { return }
            if let last = result.last, last.count == count {
                result[result.count - 1].end = end
            } else {
                result.append(Run(end: end, count: count))
            }
        }
        var start = 0
        for run in runs {
            let low = min(max(range.start, start), run.end)
            let high = min(max(range.end, start), run.end)
            append(end: low, count: run.count, after: start)
            append(end: high, count: run.count + epochs, after: low)
            append(end: run.end, count: run.count, after: high)
            start = run.end
        }
        runs = result
    }

    public var use: RowUse {
        var start = 0
        var total = 0
        for run in runs {
            total += (run.end - start) * run.count
            start = run.end
        }
        return RowUse(
            rows: start, least: runs.map(\.count).min() ?? 0, most: runs.map(\.count).max() ?? 0,
            mean: start > 0 ? Double(total) / Double(start) : 0)
    }
}
