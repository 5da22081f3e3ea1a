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
