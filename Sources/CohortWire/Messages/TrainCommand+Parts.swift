public import CohortCore
public import FoundationEssentials

/// Identifies a piece of work: a repeat of the same one is a no-op.
public struct WorkKey: Hashable, Sendable, CustomStringConvertible {
    public var sessionId: String
    public var generation: Int
    public var round: Int
    /// Rises each time that the session asks for work: a peer's answer to an earlier attempt is ignored. Absent in TRAIN: 0.
    public var attempt: Int

    public init(sessionId: String, generation: Int, round: Int, attempt: Int = 0) {
        self.sessionId = sessionId
        self.generation = generation
        self.round = round
        self.attempt = attempt
    }

    public var description: String { "round \(round) (generation \(generation)) of session \(sessionId)" }
}

extension WorkKey: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            sessionId: try container.decode(String.self, forKey: .sessionId),
            generation: try container.decode(Int.self, forKey: .generation),
            round: try container.decode(Int.self, forKey: .round), attempt: try container.decodeIfPresent(Int.self, forKey: .attempt) ?? 0)
    }
}

/// The table that a session trains on. Its manifest, dictionary and parts are below `/peers/PEER/sessions/SESSION`, for the peer's own credential.
public struct TableLink: Codable, Hashable, Sendable {
    /// The SHA-256 of the manifest's JSON as the server sends it.
    public var tableSha256: String
    /// Absent when it would make the message large, and when the peer has it.
    public var table: TableManifest?

    public init(tableSha256: String, table: TableManifest? = nil) {
        self.tableSha256 = tableSha256
        self.table = table
    }
}

/// The model that a round begins with.
public struct StartingModel: Codable, Hashable, Sendable {
    public var model: ModelSpec
    /// The seed of the weights of round 0, the same for all peers.
    public var modelSeed: UInt64
    /// The weights; absent in round 0 of a fresh model.
    public var weightsUrl: String?
    public var weightsSha256: String?
    /// The file at `weights_url` itself, when it is small: it saves a request.
    public var weights: Data?
    /// The optimizer state that is averaged: it follows the weights in the file at `weights_url`, as tensors `STREAM/NAME`. Or, as
    /// ["control_variate"], SCAFFOLD's variate: the mean of all peers' in that file, the peer's own in its update. Absent: none.
    public var streams: [String]?
    /// The number of optimizer steps behind the weights at `weights_url`; absent or 0: the optimizer starts without state.
    public var optimizerSteps: Int?
    /// The file of `model.module`, whose SHA-256 is in there; absent: the model is no module.
    public var moduleUrl: String?
    /// The module's owner: a peer runs it if that is its own owner, or if it was started to run everyone's. Absent without a module.
    public var moduleOwner: String?

    public init(model: ModelSpec, modelSeed: UInt64) {
        self.model = model
        self.modelSeed = modelSeed
    }
}

/// A peer's rows in a round, and for how long it trains on them.
public struct WorkPlan: Codable, Hashable, Sendable {
    /// Rows to train on, as places in the table, in this order.
    public var rows: [RowRange]
    /// The packed records of `rows`, then of `validation_rows`, when they are few: it saves requests.
    public var rowData: Data?
    /// Positions in the validation rows to evaluate: before training the weights at `weights_url`, if there are any; and after
    /// training the peer's own model, when `evaluate_after` is true.
    public var validationRows: RowRange?
    public var evaluateAfter = false
    /// 0: only evaluate.
    public var epochs: Int
    /// Stop after so many optimizer steps, within the last of `epochs`; absent: all epochs are whole.
    public var steps: Int?
    /// Stop after this many seconds of training and answer with the steps done; absent: no limit.
    public var timeLimit: Double?
    /// Epochs without a better validation loss before stopping (and going back to the best); absent: never.
    public var earlyStopping: Int?
    /// `lr` times a factor for each epoch; absent: `lr` throughout.
    public var lrSchedule: SchedulePosition?
    /// The optimizer state at the beginning: kept from this session's last round on this peer, averaged or reset; absent: reset.
    public var optimizerState: OptimizerMemory?

    public init(rows: [RowRange], epochs: Int) {
        self.rows = rows
        self.epochs = epochs
    }
}

/// The destination and format of an update.
public struct UpdateTarget: Hashable, Sendable {
    /// PUT the update here.
    public var url: String
    public var key: String
    /// An update file of at most so many bytes may come in DONE instead of by `url`; nil: none may.
    public var inlineBytes: Int?
    /// The streams behind the weights in the update; nil: those of ``StartingModel/streams``.
    public var streams: [String]?
    /// nil: as weights.
    public var compression: UpdateCompression?
    /// The session's last round in which this peer's answer counted; nil: none did yet. What a peer keeps of an answer that did not count is void.
    public var countedRound: Int?

    public init(
        url: String, key: String, inlineBytes: Int? = nil, streams: [String]? = nil, compression: UpdateCompression? = nil,
        countedRound: Int? = nil
    ) {
        self.url = url
        self.key = key
        self.inlineBytes = inlineBytes
        self.streams = streams
        self.compression = compression
        self.countedRound = countedRound
    }
}
