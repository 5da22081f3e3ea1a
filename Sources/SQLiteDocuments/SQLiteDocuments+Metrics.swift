public import CohortCore
import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    /// A value that is not finite is stored as absent: neither SQLite nor JSON has it.
    public func append(_ points: [MetricPoint]) async throws {
        guard !points.isEmpty else { return }
        try await write { try Self.append(points, in: $0) }
    }

    static func append(_ points: [MetricPoint], in database: Database) throws {
        for point in points {
            try database.run(
                """
                INSERT INTO metrics
                    (session_id, peer_id, round, epoch, peer_name, loss, accuracy, r2, samples_per_second, time)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (session_id, peer_id, round, epoch) DO NOTHING
                """,
                [
                    point.sessionId, point.peerId ?? "", point.round, point.epoch, point.peerName, point.loss.finite,
                    point.accuracy.finite, point.r2.finite, point.samplesPerSecond.finite, point.time.milliseconds,
                ])
        }
    }

    public func metrics(sessionId: String) async throws -> [MetricPoint] {
        try await read { database in
            try database.rows("SELECT * FROM metrics WHERE session_id = ? ORDER BY time, rowid", [sessionId]).map(MetricPoint.init(row:))
        }
    }
}

extension Double? {
    fileprivate var finite: Double? { flatMap { $0.isFinite ? $0 : nil } }
}

extension MetricPoint {
    fileprivate init(row: Row) {
        let peerId: String = row["peer_id"]
        self.init(
            sessionId: row["session_id"], peerId: peerId.isEmpty ? nil : peerId, peerName: row["peer_name"], round: row["round"],
            epoch: row["epoch"], loss: row["loss"], accuracy: row["accuracy"], r2: row["r2"],
            samplesPerSecond: row["samples_per_second"], time: Date(milliseconds: row["time"]))
    }
}
