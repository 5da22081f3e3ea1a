/// What a person asks for when starting a session; every field but the file has a default. Checked by ``validated()`` before a
/// session exists.
public struct SessionSettings: Codable, Hashable, Sendable {
    /// How many peers.
    public var peers: Int
    /// A name of the catalogue: `independent`, `fedavg`.
    public var strategy: String
    public var rounds: Int
    /// Local epochs a round.
    public var epochs: Int
    public var batchSize: Int
    /// Learning rate.
    public var lr: Double
    /// How `lr` changes over the session's epochs; absent, in sessions of versions without it: ``LearningRateSchedule/constant``.
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
    /// Whose peers may take part, and so see the data. Absent: the owner's.
    public var pool: Pool?
    /// What the person says of the columns; absent: all is told by looking.
    public var data: DataOptions?
    /// The session whose model this one goes on from: its weights, shape, target and reading of the columns. nil: fresh weights.
    public var from: String?
    /// What the person calls the session.
    public var name: String?
    /// What the person wants to remember of it.
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

    /// What `peer` trains with: its override by id, else by name, else the session's.
    public func hyperparameters(peerId: String, name: String) -> Hyperparameters {
        let override = perPeer[peerId] ?? perPeer[name]
        return Hyperparameters(
            batchSize: override?.batchSize ?? batchSize, epochs: override?.epochs ?? epochs, lr: override?.lr ?? lr)
    }

    /// Of a peer that trains `epochs` epochs a round; nil: `lr` throughout.
    public func schedulePosition(round: Int, epochs: Int) -> SchedulePosition? {
        guard let lrSchedule, lrSchedule != .constant else { return nil }
        return SchedulePosition(name: lrSchedule, epoch: round * epochs, epochs: rounds * epochs)
    }

    /// Every range in one place.
    /// - Throws: ``CohortError`` `invalid`, naming the field, its value and what would be right.
    public func validated() throws -> SessionSettings {
        func require(_ holds: Bool, _ field: String, _ value: Any, _ right: String) throws {
            guard holds else { throw CohortError(.invalid, "\(field) is \(value); it must be \(right)") }
        }
        func check(_ batchSize: Int, _ epochs: Int, _ lr: Double, in place: String) throws {
            try require((1...1_000_000).contains(batchSize), "\(place)batch_size", batchSize, "a whole number from 1 to 1000000")
            try require((1...100_000).contains(epochs), "\(place)epochs", epochs, "a whole number from 1 to 100000")
            try require(lr.isFinite && lr > 0 && lr <= 100, "\(place)lr", lr, "a number above 0, at most 100")
        }
        for (text, field, most) in [(name, "name", 80), (note, "note", 2_000)] {
            guard let text else { continue }
            try require(
                text.count <= most && !text.unicodeScalars.contains { $0.value < 32 && $0 != "\n" }, field,
                "'\(text.printable(max: 60))'", "text of at most \(most) characters")
        }
        try require((1...10_000).contains(peers), "peers", peers, "a whole number from 1 to 10000")
        try require((1...100_000).contains(rounds), "rounds", rounds, "a whole number from 1 to 100000")
        try check(batchSize, epochs, lr, in: "")
        try require(hidden.count <= 32, "hidden", "\(hidden.count) layers", "at most 32 layers")
        for width in hidden { try require((1...65_536).contains(width), "hidden", width, "layer widths from 1 to 65536, such as 128,64") }
        let weights = zip(hidden, hidden.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 }
        try require(
            weights <= ModelSpec.maxParameters, "hidden", "a net of more than \(weights) parameters",
            "at most \(ModelSpec.maxParameters) parameters")
        try require(dropout >= 0 && dropout < 1, "dropout", dropout, "from 0 to below 1")
        try require(validation >= 0 && validation <= 0.9, "validation", validation, "a share from 0 to 0.9")
        try require(
            (1...peers).contains(minPeers), "min_peers", minPeers, "from 1 to the number of peers asked for (\(peers))")
        for (peer, override) in perPeer {
            try check(
                override.batchSize ?? batchSize, override.epochs ?? epochs, override.lr ?? lr, in: "per_peer.\(peer).")
        }
        _ = try data?.validated(target: target)
        if let earlyStopping { try require(earlyStopping >= 1, "early_stopping", earlyStopping, "at least 1, or absent") }
        if let maxNormRatio { try require(maxNormRatio > 1, "max_norm_ratio", maxNormRatio, "above 1, or absent") }
        if case .byLabel(let weights) = classWeight {
            for (label, weight) in weights {
                try require(weight > 0 && weight <= 1e6, "class_weight.\(label.prefix(60))", weight, "a number above 0, at most 1000000")
            }
        }
        for (value, name) in [(optimizer.momentum, "momentum"), (optimizer.beta1, "beta1"), (optimizer.beta2, "beta2")] {
            try require(value >= 0 && value < 1, name, value, "from 0 to below 1")
        }
        try require(
            optimizer.name == .sgd || optimizer.momentum == 0, "momentum", optimizer.momentum,
            "0 with \(optimizer.name.rawValue): it is for sgd")
        try require(!optimizer.nesterov || optimizer.momentum > 0, "nesterov", true, "false without momentum")
        try require(optimizer.weightDecay >= 0 && optimizer.weightDecay.isFinite, "weight_decay", optimizer.weightDecay, "0 or more")
        try require(optimizer.epsilon > 0 && optimizer.epsilon.isFinite, "epsilon", optimizer.epsilon, "above 0")
        return self
    }
}
