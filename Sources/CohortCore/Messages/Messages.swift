public import FoundationEssentials

/// Names of the broker's queues; fixed, third-party peers rely on them.
public struct QueueName: RawRepresentable, Codable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// `coordinator.UID.events`: what the peers of a session say; UID is the session's id.
    public static func events(sessionId: String) -> QueueName { QueueName(rawValue: "coordinator.\(sessionId).events") }
    /// `peer.UID.command`: what a peer is told; UID is the peer's id.
    public static func command(peerId: String) -> QueueName { QueueName(rawValue: "peer.\(peerId).command") }

    public var description: String { rawValue }
}

/// coordinator → peer: attach to the session's event queue and answer ENABLED.
public struct EnableCommand: Codable, Hashable, Sendable {
    public var queue: String
    public var sessionId: String
    public var generation: Int

    public init(queue: String, sessionId: String, generation: Int) {
        self.queue = queue
        self.sessionId = sessionId
        self.generation = generation
    }
}

/// coordinator → peer: train one round (or, with 0 epochs, only evaluate).
public struct TrainCommand: Codable, Hashable, Sendable {
    public var csvLink: String
    public var batchSize: Int
    public var epochs: Int
    public var lr: Double
    public var sessionId: String
    public var generation: Int
    public var round: Int
    /// Needs no credentials of the peer; expires. A path (`/objects/…`) is meant relative to the server's URL.
    public var csvUrl: String
    public var csvSha256: String
    public var csvBytes: Int
    public var model: ModelSpec
    public var optimizer: OptimizerSpec
    /// For this peer and round: batch order and dropout. Weights of round 0 come from `modelSeed`.
    public var seed: UInt64
    /// The same for all peers.
    public var modelSeed: UInt64
    /// Absent when it would make the message large: then at `schema_url`.
    public var schema: TableSchema?
    public var schemaUrl: String?
    public var schemaSha256: String?
    public var rows: RowAssignment
    /// Positions in the validation rows to evaluate: before training the weights at `weights_url`, if there are any; and after
    /// training the own model, when `evaluate_after` is true.
    public var validationRows: RowRange?
    public var evaluateAfter: Bool
    /// Start from these; absent in round 0 of a fresh model.
    public var weightsUrl: String?
    public var weightsSha256: String?
    /// PUT the result here; absent when only evaluating.
    public var updateUrl: String?
    public var updateKey: String?
    /// The file at `weights_url` itself, when it is small: it saves the way there.
    public var weights: Data?
    /// An update file of at most so many bytes may come in DONE instead of by `update_url`; absent: none may.
    public var inlineUpdateBytes: Int?
    /// Stop after this many seconds of training and answer with the steps done; absent: no limit.
    public var timeLimit: Double?
    /// Epochs without a better validation loss before stopping (and going back to the best); absent: never.
    public var earlyStopping: Int?
    /// A weight a class, in the order of the schema's classes: the loss trained on is the weighted mean; absent: all count alike.
    public var classWeights: [Double]?

    public init(
        csvLink: String, hyperparameters: Hyperparameters, sessionId: String, generation: Int, round: Int, csvUrl: String,
        csvSha256: String, csvBytes: Int, model: ModelSpec, optimizer: OptimizerSpec, seed: UInt64, modelSeed: UInt64,
        schema: TableSchema?, rows: RowAssignment
    ) {
        self.csvLink = csvLink
        self.batchSize = hyperparameters.batchSize
        self.epochs = hyperparameters.epochs
        self.lr = hyperparameters.lr
        self.sessionId = sessionId
        self.generation = generation
        self.round = round
        self.csvUrl = csvUrl
        self.csvSha256 = csvSha256
        self.csvBytes = csvBytes
        self.model = model
        self.optimizer = optimizer
        self.seed = seed
        self.modelSeed = modelSeed
        self.schema = schema
        self.rows = rows
        self.evaluateAfter = false
    }
}

/// Which training rows are a peer's: positions in the permutation that ``SeededGenerator`` with `seed` and purpose `rows` makes of
/// the ascending training rows by Fisher–Yates.
public struct RowAssignment: Codable, Hashable, Sendable {
    public var seed: UInt64
    public var ranges: [RowRange]

    public init(seed: UInt64, ranges: [RowRange]) {
        self.seed = seed
        self.ranges = ranges
    }

    public var count: Int { ranges.reduce(0) { $0 + $1.count } }

    /// The table's row indices this assignment names, in the permutation's order.
    /// - Throws: ``CohortError`` `invalid` when a range reaches past the rows there are.
    public func rows(of trainingRows: [UInt32]) throws -> [UInt32] {
        var permutation = trainingRows
        var generator = SeededGenerator(seed: seed, purpose: "rows")
        generator.shuffle(&permutation)
        return try ranges.flatMap { range in
            guard range.start >= 0, range.start <= range.end, range.end <= permutation.count else {
                throw CohortError(
                    .invalid, "rows \(range.start) to \(range.end) were assigned, but there are \(permutation.count) training rows")
            }
            return permutation[range.start..<range.end]
        }
    }
}

/// coordinator → peer: leave the session.
public struct StopCommand: Codable, Hashable, Sendable {
    public enum Reason: String, Codable, Sendable { case completed, cancelled, failed }
    public var sessionId: String
    public var reason: Reason

    public init(sessionId: String, reason: Reason) {
        self.sessionId = sessionId
        self.reason = reason
    }
}

/// What a peer is told. On the wire an object whose `type` is ENABLE, TRAIN or STOP.
public enum Command: Hashable, Sendable {
    case enable(EnableCommand)
    case train(TrainCommand)
    case stop(StopCommand)

    public var sessionId: String {
        switch self {
        case .enable(let command): command.sessionId
        case .train(let command): command.sessionId
        case .stop(let command): command.sessionId
        }
    }
}

/// peer → events: attached and ready.
public struct EnabledEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int?
    public var capabilities: PeerCapabilities?

    public init(sessionId: String, peerId: String, generation: Int?, capabilities: PeerCapabilities?) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.capabilities = capabilities
    }
}

/// peer → events: after each epoch.
public struct HeartbeatEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var round: Int
    /// Epochs finished in this round, from 1.
    public var epoch: Int
    public var loss: Double
    /// Classification; absent for regression.
    public var accuracy: Double?
    public var samplesPerSecond: Double?
    /// Of the round, 0 … 1.
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
}

/// What came of a round on one peer.
public struct DoneResults: Codable, Hashable, Sendable {
    /// Training loss and accuracy of the last epoch; nil when nothing was trained.
    public var loss: Double?
    public var accuracy: Double?
    /// Training samples processed, all epochs together.
    public var samples: Int
    /// Whole epochs finished; fewer than asked for when the time limit cut the round short.
    public var epochs: Int
    /// Spent training.
    public var seconds: Double
    /// Of the weights it started from, on its validation rows.
    public var evaluation: Counts?
    /// Of its own model after training, when asked for.
    public var ownEvaluation: Counts?

    public init(
        loss: Double?, accuracy: Double?, samples: Int, epochs: Int, seconds: Double, evaluation: Counts? = nil,
        ownEvaluation: Counts? = nil
    ) {
        self.loss = loss
        self.accuracy = accuracy
        self.samples = samples
        self.epochs = epochs
        self.seconds = seconds
        self.evaluation = evaluation
        self.ownEvaluation = ownEvaluation
    }
}

/// peer → events: a round finished.
public struct DoneEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var round: Int
    public var results: DoneResults
    /// The weights, uploaded or in `update_data`; absent when only evaluating.
    public var update: ObjectReference?
    /// The update file itself, when it is small enough for it.
    public var updateData: Data?

    public init(
        sessionId: String, peerId: String, generation: Int, round: Int, results: DoneResults, update: ObjectReference?,
        updateData: Data? = nil
    ) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.round = round
        self.results = results
        self.update = update
        self.updateData = updateData
    }
}

/// peer → events: the round could not be done.
public struct ErrorEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var round: Int
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
}

/// What a peer says. On the wire an object whose `type` is ENABLED, HEARTBEAT, DONE or ERROR.
public enum PeerEvent: Hashable, Sendable {
    case enabled(EnabledEvent)
    case heartbeat(HeartbeatEvent)
    case done(DoneEvent)
    case error(ErrorEvent)

    public var sessionId: String {
        switch self {
        case .enabled(let event): event.sessionId
        case .heartbeat(let event): event.sessionId
        case .done(let event): event.sessionId
        case .error(let event): event.sessionId
        }
    }

    public var peerId: String {
        switch self {
        case .enabled(let event): event.peerId
        case .heartbeat(let event): event.peerId
        case .done(let event): event.peerId
        case .error(let event): event.peerId
        }
    }
}
