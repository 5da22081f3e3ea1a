public import CohortCore
public import CohortWire
public import FoundationEssentials

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
    /// The uploaded CSV in the object store. Absent in sessions of versions that kept it elsewhere at first.
    public var upload: ObjectReference?
    public var filename: String
    /// The model file that ``SessionSettings/from`` means: another session's object.
    public var startModel: ObjectReference?
    /// The file that ``SessionSettings/module`` means; it is its owner's, and stays when the session goes.
    public var moduleObject: ObjectReference?
    /// The trace that the request which started it belongs to, as the header of that name has it; nil: it is not traced.
    public var traceparent: String?
    public var dataset: DatasetInfo?
    public var model: ModelSpec?
    /// The names of the optimizer's moments or control variates that are averaged with the weights and follow them in files; nil: none.
    public var streams: [String]?
    /// Each of `streams` is averaged every so many rounds; nil: in every round.
    public var streamPeriods: [Int]?
    /// Steps that it has made by the newest weights; nil: none.
    public var optimizerSteps: Int?
    /// The state of the outer optimizer, where the strategy has one.
    public var outer: OuterState?
    /// The estimated computing time in seconds, by the peers' measured speeds when training starts; without the network.
    public var expectedSeconds: Double?
    public var generation: Int
    public var lease: Lease?
    /// The round being worked on, from 0; equal to `settings.rounds` during the last evaluation.
    public var round: Int
    /// When the round's TRAIN went out; nil between rounds.
    public var roundStartedAt: Date?
    /// Attempts at work given out so far; the next has this number.
    public var attempts: Int?
    /// Its peers are being claimed; the start was not answered yet.
    public var isStarting: Bool?
    /// Its final status is stored; peers, queue and leftovers are still to be freed.
    public var isEnding: Bool?
    /// The global weights the current round starts from; nil in round 0.
    public var weights: ObjectReference?
    /// The weights that training began with, where they are not drawn from the seed.
    public var startWeights: ObjectReference?
    public var best: Checkpoint?
    public var checkpoints: [Checkpoint]
    /// The newest closed round; all of them stand beside the document, so that it stays small however many there are.
    public var lastRound: RoundSummary?
    public var ledger: RowLedger?
    /// Norms of accepted updates, newest last, for the running median.
    public var updateNorms: [Double]
    /// The norms of accepted streams, newest last, by the stream's name: as ``PeerAnswer/streamNorms``.
    public var streamNorms: [String: [Double]]?
    public var waitingFor: String?
    /// The newest ``SessionEvent/max`` events, oldest first. nil in sessions of older versions.
    public var events: [SessionEvent]?
    /// The reason for which it FAILED.
    public var error: String?
    /// A user asked to cancel; the coordinator ends the session.
    public var cancelRequested: Bool
    /// Its owner's note, tags and links, which change at any time; nil: none.
    public var labels: SessionLabels?
    public var results: SessionResults?
    /// The peers' measurement of the final model.
    public var reported: Metrics?
    public var modelObject: ObjectReference?
    /// Counts the owner's models of this session's name, from 1.
    public var modelVersion: Int?
    /// Rises with every stored change; an update of another revision is refused.
    public var revision: Int

    public init(
        id: String, ownerId: String, createdAt: Date, settings: SessionSettings, peers: [SessionPeer], upload: ObjectReference?,
        filename: String
    ) {
        self.id = id
        self.ownerId = ownerId
        self.createdAt = createdAt
        self.status = .pending
        self.settings = settings
        self.peers = peers
        self.upload = upload
        self.filename = filename
        self.generation = 0
        self.round = 0
        self.checkpoints = []
        self.updateNorms = []
        self.cancelRequested = false
        self.revision = 0
    }

    /// A key such as `20260131T120000123…Z.csv`: the time of the upload, made unique by nine random digits after the milliseconds.
    public static func uploadKey(at date: Date) -> String {
        let text = date.formatted(
            Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted, includingFractionalSeconds: true))
        let chance = String(UInt64.random(in: 1_000_000_000..<2_000_000_000)).dropFirst()
        return text.filter { $0 != "." && $0 != "Z" } + chance + "Z.csv"
    }

    /// Returns whether a key was made by ``uploadKey(at:)``; earlier times sort first.
    public static func isUploadKey(_ key: String) -> Bool {
        let (text, end) = (key.utf8, key.utf8.dropFirst(27))
        let isDigits = text.prefix(27).enumerated().allSatisfy { $0 == 8 ? $1 == UInt8(ascii: "T") : (0x30...0x39).contains($1) }
        return text.count == 32 && isDigits && end.elementsEqual("Z.csv".utf8)
    }

    /// The layout of the weights that the round begins with; nil before there is a model.
    public var layout: WeightsLayout? { layout(afterRound: round - 1) }

    /// The layout of the round's updates, and of the weights that result from them.
    public var updateLayout: WeightsLayout? { layout(afterRound: round) }

    /// The layout of the weights of any of its rounds.
    public func layout(of weights: ObjectReference) -> WeightsLayout? {
        layout(afterRound: checkpoints.last { $0.weights == weights }?.round ?? -1)
    }

    private func layout(afterRound round: Int) -> WeightsLayout? {
        model.map { model in
            guard let streams, let streamPeriods else { return WeightsLayout(model, streams: streams ?? []) }
            // After the last round no optimizer state is needed.
            guard round >= 0, round + 1 < settings.rounds else { return WeightsLayout(model) }
            return WeightsLayout(model, streams: zip(streams, streamPeriods).filter { (round + 1) % max(1, $1) == 0 }.map(\.0))
        }
    }

    /// The prefix of its updates' keys. Updates that are kept have another one: all others are removed when the session has ended.
    public var updatePrefix: String { (settings.keepUpdates == true ? "kept/" : Self.updateFolder) + "\(id)/" }

    /// The prefix of its weights' keys.
    public var checkpointPrefix: String { Self.checkpointPrefix(of: id) }

    public static func checkpointPrefix(of id: String) -> String { "\(checkpointFolder)\(id)/" }

    /// The prefix of the keys of all sessions' updates that are not kept.
    public static let updateFolder = "updates/"
    /// The prefix of the keys of all sessions' weights.
    public static let checkpointFolder = "checkpoints/"

    /// The owner's note.
    public var note: String? { labels?.note ?? settings.note }

    /// The name of its model.
    public var title: String { settings.name ?? filename }

    /// The queue its coordinator listens on.
    public var eventQueue: QueueName { .events(sessionId: id) }
}

/// Global weights after a round.
public struct Checkpoint: Codable, Hashable, Sendable {
    public var round: Int
    public var weights: ObjectReference
    /// The metrics on the validation rows or a sample of them, measured by the server, else reported by the peers.
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
    /// The metrics of the weights after this round.
    public var validation: Metrics?
    public var answered: [String]
    /// Peer name → why its answer is not in.
    public var dropped: [String: String]
    /// The contribution of each update; absent in sessions of older versions.
    public var contributions: [Contribution]?
    /// The aggregation of the updates, and the SHA-256 of the resulting weights file; absent in sessions of older versions.
    public var outcome: RoundOutcome?
    public var weightsSha256: String?

    /// Without what only a receipt has.
    public var short: RoundSummary {
        var summary = self
        summary.contributions = nil
        summary.outcome = nil
        summary.weightsSha256 = nil
        return summary
    }

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
