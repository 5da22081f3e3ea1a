public import CohortWire
public import FoundationEssentials

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
