/// coordinator → peer: attach to the session's event queue and answer ENABLED.
public struct EnableCommand: Codable, Hashable, Sendable {
    public var queue: String
    public var sessionId: String
    public var generation: Int
    /// Load this data set, and report READY when it is there: for a peer that joins while others train. Absent: nothing to load yet.
    public var prepare: DatasetLinks?

    public init(queue: String, sessionId: String, generation: Int, prepare: DatasetLinks? = nil) {
        self.queue = queue
        self.sessionId = sessionId
        self.generation = generation
        self.prepare = prepare
    }
}
