public import CohortCore
public import CohortWire
public import FoundationEssentials

/// A session as lists show it.
public struct SessionSummary: Codable, Hashable, Sendable {
    public var id: String
    public var name: String?
    public var status: SessionStatus
    public var createdAt: Date
    public var startedAt: Date?
    public var endedAt: Date?
    public var filename: String
    public var strategy: String
    /// Names.
    public var peers: [String]
    /// The predicted column, once it is known, or as requested.
    public var target: String?
    public var task: LearningTask?
    public var seed: UInt64
    /// The version of the model among its owner's models of the same name, from 1.
    public var version: Int?
    /// 0 … 1.
    public var progress: Double
    /// The metrics of the model on the held-out rows.
    public var metrics: Metrics?
    public var error: String?
    public var note: String?
    /// nil: none.
    public var tags: [String]?
    public init(_ session: Session) {
        id = session.id
        name = session.settings.name
        status = session.status
        createdAt = session.createdAt
        startedAt = session.startedAt
        endedAt = session.endedAt
        filename = session.filename
        strategy = session.settings.strategy
        peers = session.peers.map(\.name)
        target = session.dataset?.target ?? session.settings.target
        task = session.dataset?.task
        seed = session.settings.seed
        version = session.modelVersion
        progress = session.progress
        metrics = session.results?.metrics
        error = session.error
        note = session.note
        tags = session.labels?.tags
    }
}
