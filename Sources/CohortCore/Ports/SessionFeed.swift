public import FoundationEssentials

/// An event of a session for the server's event stream, the CLI and the log. The document alone is the state.
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
    /// The sentence for users.
    public var message: String
    public var status: SessionStatus?
    public var progress: Double?
    public var round: Int?
    /// The number of rounds.
    public var rounds: Int?
    /// The number of epochs of a round.
    public var epochs: Int?
    public var epoch: Int?
    public var peerId: String?
    public var peerName: String?
    public var loss: Double?
    public var accuracy: Double?
    public var r2: Double?
    public var samplesPerSecond: Double?
    /// The held-out loss of the weights after a closed round.
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

/// A notice that is kept in the session; epochs and rounds are recorded separately.
public struct SessionEvent: Codable, Hashable, Sendable {
    public var kind: SessionNotice.Kind
    public var time: Date
    public var message: String

    /// The maximum number of events of a session.
    public static let max = 100
    private static let maxMessageLength = 500

    public init(_ notice: SessionNotice) {
        kind = notice.kind
        time = notice.time
        message = notice.message.count > Self.maxMessageLength ? "\(notice.message.prefix(Self.maxMessageLength))…" : notice.message
    }
}
