public import CohortCore
public import FoundationEssentials

/// coordinator → peer: train one round (or, with 0 epochs, only evaluate).
public struct TrainCommand: Codable, Hashable, Sendable {
    public var csvLink: String
    public var batchSize: Int
    public var epochs: Int
    public var lr: Double
    public var sessionId: String
    public var generation: Int
    public var round: Int
    /// Rises each time that the session asks for work: a peer's answer to an earlier attempt is not wanted any more. Absent: 0.
    public var attempt: Int?
    /// Seconds; a peer that gives no sign of work (PROGRESS, HEARTBEAT, DONE) for longer than this may be left out of the round.
    public var progressWithin: Double?
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
    /// Stop after so many steps of the optimizer, in the midst of the last of `epochs`; absent: all epochs are whole.
    public var steps: Int?
    /// Epochs without a better validation loss before stopping (and going back to the best); absent: never.
    public var earlyStopping: Int?
    /// A weight a class, in the order of the schema's classes: the loss trained on is the weighted mean; absent: all count alike.
    public var classWeights: [Double]?
    /// Share of each row's target that is spread over all classes; absent: none.
    public var labelSmoothing: Double?
    /// What is minimized: `cross_entropy`, `mse`, `l1`, `huber`; absent: as the task has it.
    public var loss: LossName?
    /// μ: after each step w −= lr·μ·(w − w₀), w₀ being the weights that the round began with; absent: 0.
    public var proximalMu: Double?
    /// Whether the optimizer goes on with what it remembers of this session's last round here; absent: it does not.
    public var optimizerState: OptimizerMemory?
    /// What the optimizer remembers that is averaged: it stands in the file at `weights_url` behind the weights, as tensors `STREAM/NAME`. Or, as
    /// ["control_variate"], SCAFFOLD's variate: the mean of all peers' there, the peer's own in its update. Absent: nothing is.
    public var streams: [String]?
    /// What stands behind the weights in the update, the same way; absent: what `streams` says.
    public var updateStreams: [String]?
    /// How the update is to be sent; absent: as weights.
    public var updateCompression: UpdateCompression?
    /// The last round of the session in which this peer's answer counted; absent: none did yet. What a peer keeps of an answer that did not count is void.
    public var countedRound: Int?
    /// Steps that the optimizer has made by the weights at `weights_url`; absent or 0: it begins without memory.
    public var optimizerSteps: Int?
    /// `lr` times a factor an epoch; absent: `lr` throughout.
    public var lrSchedule: SchedulePosition?
    /// Where the file of `model.module` is, whose SHA-256 that says; absent: the model is no module.
    public var moduleUrl: String?
    /// Whose module it is: a peer runs it if that is its own owner, or if it was started to run everyone's. Absent without a module.
    public var moduleOwner: String?
    /// The span of the round, as W3C Trace Context's header of that name has it; absent: the session is not traced.
    public var traceparent: String?

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

extension TrainCommand {
    /// Of the file at `weights_url`.
    public var layout: WeightsLayout { WeightsLayout(model, streams: streams ?? []) }

    /// Of the update.
    public var updateLayout: WeightsLayout { WeightsLayout(model, streams: updateStreams ?? streams ?? []) }
}
