public import CohortCore
public import CohortWire
public import FoundationEssentials

/// A peer's DONE.
public struct PeerAnswer: Codable, Hashable, Sendable {
    /// That it counts in.
    public var round: Int
    /// That its work was given in, where that is an earlier one.
    public var workRound: Int?
    public var results: DoneResults
    public var update: ObjectReference?
    public var answeredAt: Date
    /// Since the round began, on the run's clock.
    public var seconds: Double?
    /// L2, of the step from the round's weights.
    public var norm: Double?
    /// The L2 norm of each stream beside the weights, by its name; of squares that of their roots. nil: the update has none.
    public var streamNorms: [String: Double]?
    /// The server's measurement of the peer's own model on held-out rows.
    public var measured: Counts?

    public init(
        round: Int, workRound: Int? = nil, results: DoneResults, update: ObjectReference?, answeredAt: Date, seconds: Double? = nil,
        norm: Double? = nil, streamNorms: [String: Double]? = nil,
        measured: Counts? = nil
    ) {
        self.streamNorms = streamNorms
        self.seconds = seconds
        self.norm = norm
        self.measured = measured
        self.round = round
        self.workRound = workRound
        self.results = results
        self.update = update
        self.answeredAt = answeredAt
    }
}

/// An accepted answer as it is recorded until its round is closed.
public struct RecordedAnswer: Codable, Hashable, Sendable {
    public var peerId: String
    public var generation: Int
    /// The attempt of the work that it answers.
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
