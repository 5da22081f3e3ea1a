public import CohortCore

/// coordinator → peer: train one round (or, with 0 epochs, only evaluate). One flat JSON object, of whose fields each part reads its own.
public struct TrainCommand: Hashable, Sendable {
    public var work: WorkKey
    /// `s3://BUCKET/KEY` of the data set, for people.
    public var csvLink: String
    public var table: TableLink
    public var start: StartingModel
    public var plan: WorkPlan
    /// Without the learning rate's schedule: see ``WorkPlan/lrSchedule``. The seed is also that of the batch order.
    public var options: TrainingOptions
    /// Absent when only evaluating.
    public var update: UpdateTarget?
    /// Seconds; a peer that gives no sign of work (PROGRESS, HEARTBEAT, DONE) for longer than this may be left out of the round.
    public var progressWithin: Double?
    /// The span of the round, as W3C Trace Context's header of that name has it; absent: the session is not traced.
    public var traceparent: String?

    public init(
        work: WorkKey, csvLink: String, table: TableLink, start: StartingModel, plan: WorkPlan, options: TrainingOptions,
        update: UpdateTarget? = nil
    ) {
        self.work = work
        self.csvLink = csvLink
        self.table = table
        self.start = start
        self.plan = plan
        self.options = options
        self.update = update
    }

    /// The layout of the file at ``StartingModel/weightsUrl``.
    public var layout: WeightsLayout { WeightsLayout(start.model, streams: start.streams ?? []) }

    /// The layout of the update.
    public var updateLayout: WeightsLayout { WeightsLayout(start.model, streams: update?.streams ?? start.streams ?? []) }
}

extension TrainCommand: Codable {
    private enum CodingKeys: String, CodingKey { case csvLink, progressWithin, traceparent }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            work: try WorkKey(from: decoder), csvLink: try container.decode(String.self, forKey: .csvLink),
            table: try TableLink(from: decoder), start: try StartingModel(from: decoder), plan: try WorkPlan(from: decoder),
            options: try OptionFields(from: decoder).options, update: try UpdateFields(from: decoder).target)
        progressWithin = try container.decodeIfPresent(Double.self, forKey: .progressWithin)
        traceparent = try container.decodeIfPresent(String.self, forKey: .traceparent)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(csvLink, forKey: .csvLink)
        try container.encodeIfPresent(progressWithin, forKey: .progressWithin)
        try container.encodeIfPresent(traceparent, forKey: .traceparent)
        try work.encode(to: encoder)
        try table.encode(to: encoder)
        try start.encode(to: encoder)
        try plan.encode(to: encoder)
        try OptionFields(options).encode(to: encoder)
        if let update { try UpdateFields(update).encode(to: encoder) }
    }
}

/// TRAIN's names for ``TrainingOptions``.
private struct OptionFields: Codable {
    var optimizer: OptimizerSpec
    var batchSize: Int
    var lr: Double
    var seed: UInt64
    var classWeights: [Double]?
    var labelSmoothing: Double?
    var loss: LossName?
    var proximalMu: Double?

    init(_ options: TrainingOptions) {
        optimizer = options.optimizer
        batchSize = options.batchSize
        lr = options.learningRate
        seed = options.dropoutSeed
        classWeights = options.classWeights
        labelSmoothing = options.labelSmoothing == 0 ? nil : options.labelSmoothing
        loss = options.loss
        proximalMu = options.proximalMu == 0 ? nil : options.proximalMu
    }

    var options: TrainingOptions {
        TrainingOptions(
            optimizer: optimizer, batchSize: batchSize, learningRate: lr, classWeights: classWeights, labelSmoothing: labelSmoothing ?? 0,
            loss: loss, proximalMu: proximalMu ?? 0, dropoutSeed: seed)
    }
}

/// TRAIN's names for ``UpdateTarget``.
private struct UpdateFields: Codable {
    var updateUrl: String?
    var updateKey: String?
    var inlineUpdateBytes: Int?
    var updateStreams: [String]?
    var updateCompression: UpdateCompression?
    var countedRound: Int?

    init(_ target: UpdateTarget) {
        updateUrl = target.url
        updateKey = target.key
        inlineUpdateBytes = target.inlineBytes
        updateStreams = target.streams
        updateCompression = target.compression
        countedRound = target.countedRound
    }

    var target: UpdateTarget? {
        guard let updateUrl, let updateKey else { return nil }
        return UpdateTarget(
            url: updateUrl, key: updateKey, inlineBytes: inlineUpdateBytes, streams: updateStreams, compression: updateCompression,
            countedRound: countedRound)
    }
}
