public import FoundationEssentials

/// What happens in a session, for whoever watches: the server's event stream, the CLI, the log. It tells; the document is the truth.
public struct SessionNotice: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Sendable {
        /// The status changed, or what it waits for.
        case status
        /// A peer finished an epoch.
        case epoch
        /// A round closed.
        case round
        /// A peer was enabled, lost, refused, came back, joined.
        case peer
        /// A sentence that fits no other kind.
        case note
    }

    public var sessionId: String
    public var kind: Kind
    public var time: Date
    /// In words, for people.
    public var message: String
    public var status: SessionStatus?
    public var progress: Double?
    public var round: Int?
    /// How many there are.
    public var rounds: Int?
    /// How many epochs a round has.
    public var epochs: Int?
    public var epoch: Int?
    public var peerId: String?
    public var peerName: String?
    public var loss: Double?
    public var accuracy: Double?
    public var r2: Double?
    public var samplesPerSecond: Double?
    /// Of a round that closed: of the weights after it, on the held-out rows.
    public var validationLoss: Double?
    public var validationAccuracy: Double?
    public var validationR2: Double?
    /// Regression: root mean squared error, in the target's unit.
    public var validationRmse: Double?

    public init(sessionId: String, kind: Kind, time: Date, message: String) {
        self.sessionId = sessionId
        self.kind = kind
        self.time = time
        self.message = message
    }
}

/// Passes notices from coordinators to watchers.
public protocol SessionFeed: Sendable {
    func publish(_ notice: SessionNotice) async
    /// Notices of one session from now on. Buffers the newest 1,000: a watcher that is slower misses the oldest, and reads the
    /// document for the truth.
    func subscribe(sessionId: String) async -> AsyncStream<SessionNotice>
}

/// What is kept of a notice that people may want to read later: not epochs and rounds, whose figures are kept apart.
public struct SessionEvent: Codable, Hashable, Sendable {
    public var kind: SessionNotice.Kind
    public var time: Date
    public var message: String

    /// Of one session, at the most.
    public static let most = 100
    private static let longestMessage = 500

    public init(_ notice: SessionNotice) {
        kind = notice.kind
        time = notice.time
        message = notice.message.count > Self.longestMessage ? "\(notice.message.prefix(Self.longestMessage))…" : notice.message
    }
}
