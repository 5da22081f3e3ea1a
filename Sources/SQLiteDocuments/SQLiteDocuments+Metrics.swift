import CohortCore
public import CohortSession
import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    /// A value that is not finite is stored as absent: neither SQLite nor JSON has it.
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
            try MetricPoint.all(
                database, "SELECT \(MetricPoint.columns) FROM metrics WHERE session_id = ? ORDER BY time, rowid", arguments: [sessionId],
                sessionId: sessionId)
        }
    }

    public func metrics(sessionId: String, maxPerPeer: Int) async throws -> [MetricPoint] {
        try await read { database in
            // Which rows, from the index alone: peer by peer, in order. Rows themselves are read where they are wanted.
            let peers = try database.rows(
                "SELECT count(*) AS points FROM metrics WHERE session_id = ? GROUP BY peer_id ORDER BY peer_id", [sessionId]
            ).map { $0["points"] as Int }
            let ids = try Int64.fetchCursor(
                try database.cachedStatement(
                    sql: "SELECT rowid FROM metrics WHERE session_id = ? ORDER BY peer_id, round, epoch"), arguments: [sessionId])
            var wanted: [Int64] = []
            for points in peers {
                let every = max(1, (points + maxPerPeer - 1) / max(1, maxPerPeer))
                for place in 0..<points {
                    guard let id = try ids.next() else { break }
                    if place % every == 0 || place == points - 1 { wanted.append(id) }
                }
            }
            return try MetricPoint.all(
                database,
                """
                SELECT \(MetricPoint.columns) FROM metrics WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY peer_id, round, epoch
                """, arguments: ["[\(wanted.map { "\($0)" }.joined(separator: ","))]"], sessionId: sessionId)
        }
    }
}

extension Double? {
    fileprivate var finite: Double? { flatMap { $0.isFinite ? $0 : nil } }
}

extension MetricPoint {
    fileprivate static let columns = "peer_id, peer_name, round, epoch, loss, accuracy, r2, samples_per_second, time"

    /// Without a copy of each row, and by the columns' places: there may be very many.
    fileprivate static func all(
        _ database: Database, _ query: String, arguments: StatementArguments, sessionId: String
    ) throws -> [MetricPoint] {
        var points: [MetricPoint] = []
        let rows = try Row.fetchCursor(try database.cachedStatement(sql: query), arguments: arguments)
        while let row = try rows.next() {
            let peerId: String = row[0]
            points.append(
                MetricPoint(
                    sessionId: sessionId, peerId: peerId.isEmpty ? nil : peerId, peerName: row[1], round: row[2], epoch: row[3],
                    loss: row[4],
                    accuracy: row[5], r2: row[6], samplesPerSecond: row[7], time: Date(milliseconds: row[8])))
        }
        return points
    }
}
