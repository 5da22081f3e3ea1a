/// coordinator → peer: leave the session.
public struct StopCommand: Codable, Hashable, Sendable {
    public enum Reason: String, Codable, Sendable { case completed, cancelled, failed }
    public var sessionId: String
    public var reason: Reason

    public init(sessionId: String, reason: Reason) {
        self.sessionId = sessionId
        self.reason = reason
    }
}
