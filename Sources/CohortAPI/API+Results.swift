public import CohortCore
public import CohortSession
public import CohortWire

/// Results of a session.
extension API {
    public struct Results: Codable, Sendable {
        public var sessionId: String
        public var status: SessionStatus
        public var metrics: Metrics
        public var peers: [Peer]
        public var rounds: Int
        public var seconds: Double
        /// The estimated computing time in seconds, by the peers' speeds as measured before; without the network.
        public var expectedSeconds: Double?
        /// The version of the model among its owner's models of the same name, from 1.
        public var version: Int?
        public var rows: RowUse?
        public var bestPeer: String?
        /// The metrics of the model as the peers reported them; `metrics` has the server's own, where it could measure.
        public var reported: Metrics?
        public var strategy: String
        public var target: String?
        public var task: LearningTask?
        /// The user chose the target; else it is the last column.
        public var targetGiven: Bool
        public var seed: UInt64
        /// Notes about the data for the user.
        public var warnings: [String]
        /// The server's detailed evaluation; absent where it could not measure.
        public var evaluation: Evaluation?
        /// Regression: √loss × this is a root mean squared error in the target's unit.
        public var targetStd: Double?
        /// Closed rounds, oldest first, with training and validation loss.
        public var history: [RoundSummary]

        /// The results of one peer, as in ``PeerResult``, with each metric as a field.
        public struct Peer: Codable, Sendable {
            public var id: String
            public var name: String
            public var engine: String
            public var device: String
            public var state: SessionPeer.State
            public var loss: Double?
            public var accuracy: Double?
            public var r2: Double?
            public var samples: Int
            public var samplesPerSecond: Double?
            public var trainedSamples: Int
            public var workedSeconds: Double?
            public var sentBytes: Int?
            public var receivedRows: Int?
            public var message: String?
        }

        public init(_ session: Session, _ results: SessionResults, history: [RoundSummary]) {
            sessionId = session.id
            status = session.status
            strategy = session.settings.strategy
            target = session.dataset?.target
            task = session.dataset?.task
            targetGiven = session.settings.target != nil
            seed = session.settings.seed
            targetStd = session.dataset?.targetStd
            warnings = session.dataset?.warnings ?? []
            evaluation = results.evaluation
            self.history = history.map(\.short)
            metrics = results.metrics
            rounds = results.rounds
            seconds = results.seconds
            expectedSeconds = session.expectedSeconds
            version = session.modelVersion
            rows = results.rows
            bestPeer = results.bestPeer
            reported = results.reported
            peers = results.peers.map {
                Peer(
                    id: $0.id, name: $0.name, engine: $0.engine, device: $0.device, state: $0.state, loss: $0.metrics.loss,
                    accuracy: $0.metrics.accuracy, r2: $0.metrics.r2, samples: $0.metrics.samples,
                    samplesPerSecond: $0.samplesPerSecond, trainedSamples: $0.trainedSamples,
                    workedSeconds: $0.workedSeconds, sentBytes: $0.sentBytes, receivedRows: $0.receivedRows, message: $0.message)
            }
        }
    }
}
