import CohortCore

/// peer → events: work goes on. Sent at intervals while a phase takes long, to distinguish a working peer from one that only beats.
public struct ProgressEvent: Codable, Hashable, Sendable {
    public enum Phase: String, Codable, Sendable { case loading, training, evaluating, uploading }

    public var sessionId: String
    public var peerId: String
    public var generation: Int
    public var phase: Phase
    /// The progress of the phase, 0 … 1.
    public var progress: Double

    public init(sessionId: String, peerId: String, generation: Int, phase: Phase, progress: Double) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        self.phase = phase
        self.progress = progress
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        sessionId = try container.name(.sessionId)
        peerId = try container.name(.peerId)
        generation = try container.whole(.generation, in: Bounds.generations)
        phase = try container.decode(Phase.self, forKey: .phase)
        progress = try container.number(.progress, in: Bounds.share)
    }
}
