public import CohortCore

public struct SessionResults: Codable, Hashable, Sendable {
    /// The final model's metrics on the validation rows.
    public var metrics: Metrics
    public var peers: [PeerResult]
    public var rounds: Int
    public var seconds: Double
    /// The number of times that training rows were trained on.
    public var rows: RowUse?
    /// `independent`: whose model was chosen.
    public var bestPeer: String?
    /// The peers' measurement; `metrics` is the server's, where it could measure.
    public var reported: Metrics?
    /// The server's detailed measurement on the held-out rows, or on an even sample of many; absent where it could not measure.
    public var evaluation: Evaluation?

    public init(
        metrics: Metrics, peers: [PeerResult], rounds: Int, seconds: Double, rows: RowUse?, bestPeer: String? = nil,
        reported: Metrics? = nil, evaluation: Evaluation? = nil
    ) {
        self.evaluation = evaluation
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
    /// The seconds from each round's beginning to its answer, in total.
    public var workedSeconds: Double?
    /// The bytes of its updates.
    public var sentBytes: Int?
    /// The number of different rows that were dealt to it, held-out rows included; nil in documents of older versions.
    public var receivedRows: Int?
    public var message: String?

    public init(
        id: String, name: String, engine: String, device: String, state: SessionPeer.State, metrics: Metrics,
        samplesPerSecond: Double?, trainedSamples: Int, message: String?, workedSeconds: Double? = nil, sentBytes: Int? = nil,
        receivedRows: Int? = nil
    ) {
        self.receivedRows = receivedRows
        self.id = id
        self.name = name
        self.engine = engine
        self.device = device
        self.state = state
        self.metrics = metrics
        self.samplesPerSecond = samplesPerSecond
        self.trainedSamples = trainedSamples
        self.workedSeconds = workedSeconds
        self.sentBytes = sentBytes
        self.message = message
    }
}
