/// coordinator → peer: an answer was not accepted, and why. New work, if there is any, comes as a TRAIN of a higher attempt.
public struct RefusedCommand: Codable, Hashable, Sendable {
    public var sessionId: String
    public var generation: Int
    public var round: Int
    public var attempt: Int
    public var reason: String

    public init(sessionId: String, generation: Int, round: Int, attempt: Int, reason: String) {
        self.sessionId = sessionId
        self.generation = generation
        self.round = round
        self.attempt = attempt
        self.reason = reason
    }
}
