public import CohortCore

/// The settings of a session; every field has a default. Checked by ``check()`` before a
/// session exists.
public struct SessionSettings: Codable, Hashable, Sendable {
    /// The number of peers.
    public var peers: Int
    /// A name of the catalogue: `independent`, `fedavg`.
    public var strategy: String
    public var rounds: Int
    /// Local epochs a round.
    public var epochs: Int
    /// Steps of each peer's optimizer a round, in place of epochs; nil: ``epochs``.
    public var localSteps: Int?
    public var batchSize: Int
    /// Learning rate.
    public var lr: Double
    /// The schedule of `lr` over the session's epochs; absent in sessions of older versions: ``LearningRateSchedule/constant``.
    public var lrSchedule: LearningRateSchedule?
    public var optimizer: OptimizerSpec
    public var hidden: [Int]
    public var activation: Activation
    public var dropout: Double
    /// nil: told from the target column.
    public var task: LearningTask?
    /// nil: the last column.
    public var target: String?
    public var seed: UInt64
    /// Share of rows held out, 0 ..< 1.
    public var validation: Double
    /// Fewer living peers than this end the session.
    public var minPeers: Int
    /// Peer name or id → what it overrides.
    public var perPeer: [String: Override]
    /// Stop when the validation loss has not improved for this many rounds (`fedavg`) or epochs (`independent`); nil: never.
    public var earlyStopping: Int?
    /// Refuse an update whose norm is more than this many times the running median; nil: only warn, past three times.
    public var maxNormRatio: Double?
    /// nil: every row counts alike.
    public var classWeight: ClassWeight?
    /// nil: cross-entropy of classes, the squared error of a number.
    public var loss: LossName?
    /// Share of each row's target that is spread over all classes; nil: none.
    public var labelSmoothing: Double?
    /// The strength μ by which each step pulls the weights toward the round's; nil: the strategy's default.
    public var proximalMu: Double?
    /// The server optimizer's η, β and τ, where the strategy has one; nil: the strategy's default.
    public var serverLr: Double?
    public var serverMomentum: Double?
    public var serverTau: Double?
    /// The weight of an answer in a mean; nil: ``Weighting/samples``.
    public var weighting: Weighting?
    /// The format of updates; nil: ``UpdateCompression/none``.
    public var updateCompression: UpdateCompression?
    /// Updates are kept until the session is deleted, so that its model can be computed again; nil: they are not.
    public var keepUpdates: Bool?
    /// f, against which a robust strategy stands: so many peers may send anything. nil: as many as it can stand.
    public var maliciousPeers: Int?
    /// Each change is replaced by the mean of its nearest ones before a robust strategy's rule; nil: it is not.
    public var nearestNeighborMixing: Bool?
    /// K: so many answers close a round of a strategy that takes late ones into later rounds; nil: as the strategy has it.
    public var bufferSize: Int?
    /// nil: ``OptimizerMemory/standard(for:)``.
    public var optimizerState: OptimizerMemory?
    /// The users whose peers may take part, and so receive the data. Absent: the owner.
    public var pool: Pool?
    /// Column options; absent: all is inferred.
    public var data: DataOptions?
    /// The session whose model this one goes on from: its weights, shape, target and reading of the columns. nil: fresh weights.
    public var from: String?
    /// A custom module, which is trained instead of a SimpleDNN: the SHA-256 of its file, lowercase hexadecimal, as it was
    /// uploaded before (`POST /modules`).
    public var module: String?
    /// The names of settings that are chosen by the rows and the peers when training starts: see ``WorkChoice``. nil: none.
    public var automatic: [String]?
    /// The name of the session.
    public var name: String?
    /// A note.
    public var note: String?

    public struct Override: Codable, Hashable, Sendable {
        public var batchSize: Int?
        public var epochs: Int?
        public var lr: Double?

        public init(batchSize: Int? = nil, epochs: Int? = nil, lr: Double? = nil) {
            self.batchSize = batchSize
            self.epochs = epochs
            self.lr = lr
        }
    }

    public init(
        peers: Int = 1, strategy: String = "fedavg", rounds: Int = 10, epochs: Int = 1, batchSize: Int = 32, lr: Double = 0.001,
        optimizer: OptimizerSpec = OptimizerSpec(), hidden: [Int] = [128, 64], activation: Activation = .relu, dropout: Double = 0,
        task: LearningTask? = nil, target: String? = nil, seed: UInt64 = 0, validation: Double = 0.2, minPeers: Int = 1,
        perPeer: [String: Override] = [:], earlyStopping: Int? = nil, maxNormRatio: Double? = nil,
        classWeight: ClassWeight? = nil, pool: Pool? = nil, data: DataOptions? = nil, lrSchedule: LearningRateSchedule? = .decay
    ) {
        self.peers = peers
        self.strategy = strategy
        self.rounds = rounds
        self.epochs = epochs
        self.batchSize = batchSize
        self.lr = lr
        self.optimizer = optimizer
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.task = task
        self.target = target
        self.seed = seed
        self.validation = validation
        self.minPeers = minPeers
        self.perPeer = perPeer
        self.earlyStopping = earlyStopping
        self.maxNormRatio = maxNormRatio
        self.classWeight = classWeight
        self.pool = pool
        self.data = data
        self.lrSchedule = lrSchedule
    }

    /// The defaults, before user input is applied.
    public static func defaults(peers: Int = 1, seed: UInt64) -> SessionSettings {
        var settings = SessionSettings(peers: peers, seed: seed)
        settings.automatic = WorkChoice.names
        return settings
    }

    /// The peer's hyperparameters: its override by id, else by name, else the session's.
    public func hyperparameters(peerId: String, name: String) -> Hyperparameters {
        let override = perPeer[peerId] ?? perPeer[name]
        return Hyperparameters(
            batchSize: override?.batchSize ?? batchSize, epochs: override?.epochs ?? epochs, lr: override?.lr ?? lr)
    }

    /// The peer's hyperparameters for its rows: with ``localSteps``, the number of epochs that these begin.
    public func hyperparameters(of peer: SessionPeer) -> Hyperparameters {
        var own = hyperparameters(peerId: peer.id, name: peer.name)
        if let localSteps {
            let steps = max(1, (peer.rowCount + own.batchSize - 1) / max(1, own.batchSize))
            own.epochs = (localSteps + steps - 1) / steps
        }
        return own
    }

    /// The position in the schedule of a peer that trains `epochs` epochs a round; nil: constant `lr`.
    public func schedulePosition(round: Int, epochs: Int) -> SchedulePosition? {
        guard let lrSchedule, lrSchedule != .constant else { return nil }
        return SchedulePosition(name: lrSchedule, epoch: round * epochs, epochs: rounds * epochs)
    }

    /// The column options, and those that follow from other settings.
    public var dataOptions: DataOptions {
        var options = data ?? DataOptions()
        if module != nil { options.keepsConstant = true }
        return options
    }

    /// Every range in one place.
    /// - Throws: ``CohortError`` `invalid`, naming the field, its value and what would be right.
    public func check() throws {
        for setting in SessionSetting.all { try setting.check(self) }
        try data?.check(target: target)
        guard module == nil || from == nil else {
            throw CohortError(.invalid, "module does not go with from: the model that training goes on from has its own")
        }
        if localSteps != nil {
            guard epochs == 1 else {
                throw CohortError(.invalid, "epochs is \(epochs); it must be absent with local_steps, which takes its place")
            }
            for (peer, override) in perPeer.sorted(by: { $0.key < $1.key }) where override.epochs != nil {
                throw CohortError(
                    .invalid, "per_peer.\(peer.printable(max: 60)).epochs must be absent with local_steps, which takes its place")
            }
        }
        guard optimizer.name == .sgd || optimizer.momentum == 0 else {
            throw CohortError(
                .invalid, "momentum is \(optimizer.momentum); it must be 0 with \(optimizer.name.rawValue): it is for sgd")
        }
    }

    /// Checks the settings that depend on the data.
    /// - Throws: ``CohortError`` `invalid` for settings of a classification when a number is predicted, and for weights of unknown classes.
    public func check(for schema: TableSchema) throws {
        _ = try classWeight?.weights(of: schema)
        if let loss, loss.task != schema.task {
            throw CohortError(
                .invalid,
                "loss is \(loss.rawValue), which is for \(loss.task); '\(schema.target)' is a \(schema.task): task says which it shall be")
        }
        guard labelSmoothing ?? 0 == 0 || schema.task == .classification else {
            throw CohortError(
                .invalid, "label_smoothing is for classification; '\(schema.target)' is a number to predict (task regression)")
        }
    }
}
