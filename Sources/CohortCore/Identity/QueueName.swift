/// Names of the broker's queues; fixed, third-party peers rely on them.
public struct QueueName: RawRepresentable, Codable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// `coordinator.UID.events`: what the peers of a session say; UID is the session's id.
    public static func events(sessionId: String) -> QueueName { QueueName(rawValue: "coordinator.\(sessionId).events") }
    /// `peer.UID.command`, the commands to a peer; UID is the peer's id.
    public static func command(peerId: String) -> QueueName { QueueName(rawValue: "peer.\(peerId).command") }

    public var description: String { rawValue }
}
