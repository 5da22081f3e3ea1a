public import FoundationEssentials

public enum SessionStatus: String, Codable, Sendable, CaseIterable {
    case pending = "PENDING"
    case running = "RUNNING"
    case completed = "COMPLETED"
    case failed = "FAILED"
    case cancelled = "CANCELLED"

    public var isFinal: Bool { self == .completed || self == .failed || self == .cancelled }
}

/// An object in the store, with what proves it whole.
public struct ObjectReference: Codable, Hashable, Sendable {
    public var key: String
    /// Lowercase hexadecimal.
    public var sha256: String
    public var bytes: Int

    public init(key: String, sha256: String, bytes: Int) {
        self.key = key
        self.sha256 = sha256
        self.bytes = bytes
    }
}

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
    /// What the optimizer remembers that is averaged with the weights, and stands behind them in their files; nil: nothing.
    public var streams: [String]?
    /// Each of `streams` is averaged every so many rounds; nil: in every round.
    public var streamPeriods: [Int]?
    /// Steps that it has made by the newest weights; nil: none.
    public var optimizerSteps: Int?
    /// What the server's own optimizer remembers, where the strategy has one.
    public var outer: OuterState?
    /// How long computing takes by the peers' measured speeds, told when training starts; the network comes on top.
    public var expectedSeconds: Double?
    public var generation: Int
    public var lease: Lease?
    /// The round being worked on, from 0; equal to `settings.rounds` during the last evaluation.
    public var round: Int
    /// When the round's TRAIN went out; nil between rounds.
    public var roundStartedAt: Date?
    /// Attempts at work given out so far; the next has this number.
    public var attempts: Int?
    /// Its peers are being claimed; nobody was told of it yet.
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
    /// What happened, oldest first, for whoever looks later: the newest ``SessionEvent/most``. nil in sessions of versions without.
    public var events: [SessionEvent]?
    /// Why it FAILED, for people.
    public var error: String?
    /// A person asked to cancel; whoever runs the session carries it out.
    public var cancelRequested: Bool
    public var results: SessionResults?
    /// Of the final model, as the peers reported it.
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

    /// `20260131T120000123…Z.csv`: the time of an upload, its own from the millisecond on by chance (nine digits).
    public static func uploadKey(at date: Date) -> String {
        let text = date.formatted(
            Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted, includingFractionalSeconds: true))
        let chance = String(UInt64.random(in: 1_000_000_000..<2_000_000_000)).dropFirst()
        return text.filter { $0 != "." && $0 != "Z" } + chance + "Z.csv"
    }

    /// Of keys by ``uploadKey(at:)``, those of the same length: earlier times sort first.
    public static func isUploadKey(_ key: String) -> Bool {
        let (text, end) = (key.utf8, key.utf8.dropFirst(27))
        let isDigits = text.prefix(27).enumerated().allSatisfy { $0 == 8 ? $1 == UInt8(ascii: "T") : (0x30...0x39).contains($1) }
        return text.count == 32 && isDigits && end.elementsEqual("Z.csv".utf8)
    }

    /// Of the weights that its round begins with; nil before there is a model.
    public var layout: WeightsLayout? { layout(afterRound: round - 1) }

    /// Of its round's updates, and of the weights that are made of them.
    public var updateLayout: WeightsLayout? { layout(afterRound: round) }

    /// Of weights of any of its rounds.
    public func layout(of weights: ObjectReference) -> WeightsLayout? {
        layout(afterRound: checkpoints.last { $0.weights == weights }?.round ?? -1)
    }

    private func layout(afterRound round: Int) -> WeightsLayout? {
        model.map { model in
            guard let streams, let streamPeriods else { return WeightsLayout(model, streams: streams ?? []) }
            // After the last round nobody goes on from what is remembered.
            guard round >= 0, round + 1 < settings.rounds else { return WeightsLayout(model) }
            return WeightsLayout(model, streams: zip(streams, streamPeriods).filter { (round + 1) % max(1, $1) == 0 }.map(\.0))
        }
    }

    /// What keys of its updates begin with. Those that are kept stand apart: what has the other beginning is removed when the session has ended.
    public var updatePrefix: String { "\(settings.keepUpdates == true ? "kept" : "updates")/\(id)/" }

    /// What its model is called.
    public var title: String { settings.name ?? filename }

    /// The queue its coordinator listens on.
    public var eventQueue: QueueName { .events(sessionId: id) }
}

/// Global weights after a round.
public struct Checkpoint: Codable, Hashable, Sendable {
    public var round: Int
    public var weights: ObjectReference
    /// On the validation rows, or a sample of them: as this process measured, else as the peers reported.
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
    /// Of the weights after this round.
    public var validation: Metrics?
    public var answered: [String]
    /// Peer name → why its answer is not in.
    public var dropped: [String: String]
    /// What became of each update; absent in sessions of versions without it.
    public var contributions: [Contribution]?
    /// How the updates became one, and the SHA-256 of the weights' file that came of it; absent in sessions of versions without it.
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
