public import CohortCore
public import FoundationEssentials

/// peer → events: a round finished.
public struct DoneEvent: Codable, Hashable, Sendable {
    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var round: Int
    /// The attempt that TRAIN named; absent: whichever the peer was asked for last.
    public var attempt: Int?
    public var results: DoneResults
    /// The weights, uploaded or in `update_data`; absent when only evaluating.
    public var update: ObjectReference?
    /// The update file itself, when it is small enough for it.
    public var updateData: Data?

    public init(
        sessionId: String, peerId: String, generation: Int, round: Int, attempt: Int? = nil, results: DoneResults, update: ObjectReference?,
        updateData: Data? = nil
    ) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.round = round
        self.attempt = attempt
        self.results = results
        self.update = update
        self.updateData = updateData
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        sessionId = try container.name(.sessionId)
        peerId = try container.name(.peerId)
        generation = try container.whole(.generation, in: Bounds.generations)
        round = try container.whole(.round, in: Bounds.rounds)
        attempt = try container.wholeIfPresent(.attempt, in: Bounds.generations)
        results = try container.decode(DoneResults.self, forKey: .results)
        update = try container.decodeIfPresent(ObjectReference.self, forKey: .update)
        if let update {
            guard (1...512).contains(update.key.utf8.count), update.sha256.utf8.count == 64, update.sha256.allSatisfy(\.isHexDigit),
                Bounds.objectBytes.contains(update.bytes)
            else {
                throw DecodingError.dataCorruptedError(
                    forKey: .update, in: container,
                    debugDescription: "it must have a key, the SHA-256 as 64 hexadecimal digits and the number of bytes")
            }
        }
        updateData = try container.decodeIfPresent(Data.self, forKey: .updateData)
    }
}

/// The results of a round on one peer.
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
    /// The evaluation of the weights that it started from, on its validation rows.
    public var evaluation: Counts?
    /// The evaluation of its model after training, when asked for.
    public var ownEvaluation: Counts?
    /// Steps that the optimizer has made, where what it remembers is averaged.
    public var optimizerSteps: Int?

    public init(
        loss: Double?, accuracy: Double?, samples: Int, epochs: Int, seconds: Double, evaluation: Counts? = nil,
        ownEvaluation: Counts? = nil, optimizerSteps: Int? = nil
    ) {
        self.optimizerSteps = optimizerSteps
        self.loss = loss
        self.accuracy = accuracy
        self.samples = samples
        self.epochs = epochs
        self.seconds = seconds
        self.evaluation = evaluation
        self.ownEvaluation = ownEvaluation
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        loss = try container.magnitudeIfPresent(.loss)
        accuracy = try container.numberIfPresent(.accuracy, in: Bounds.share)
        samples = try container.whole(.samples, in: Bounds.samples)
        epochs = try container.whole(.epochs, in: Bounds.epochs)
        seconds = try container.number(.seconds, in: Bounds.seconds)
        evaluation = try container.decodeIfPresent(Counts.self, forKey: .evaluation)
        ownEvaluation = try container.decodeIfPresent(Counts.self, forKey: .ownEvaluation)
        optimizerSteps = try container.wholeIfPresent(.optimizerSteps, in: Bounds.samples)
    }

    /// Samples per second, always finite; nil when nothing was trained.
    public var rate: Double? { samples > 0 ? min(Double(samples) / max(seconds, 1e-6), Bounds.rate.upperBound) : nil }
}
