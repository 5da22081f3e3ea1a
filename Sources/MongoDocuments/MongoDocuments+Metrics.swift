import CohortCore
public import CohortSession

extension MongoDocuments {
    /// A value that is not finite is stored as absent: JSON has none.
    func append(_ points: [MetricPoint]) async throws {
        var rest = points[...]
        while !rest.isEmpty {
            let some = rest.prefix(1_000)
            rest = rest.dropFirst(some.count)
            let documents = try some.map { point -> MongoJSON in
                var point = point
                point.loss = point.loss.finite
                point.accuracy = point.accuracy.finite
                point.r2 = point.r2.finite
                point.samplesPerSecond = point.samplesPerSecond.finite
                let id = "\(point.sessionId)/\(point.peerId ?? "")/\(point.round)/\(point.epoch)"
                return try .document(id, point, fields: "\"_store\":{\"number\":\(nextNumber())}")
            }
            let written = try await write("{\"insert\":\"metrics\",\"documents\":\(documents),\"ordered\":false}")
            // A duplicate is there already, and stays.
            if let failure = written.writeErrors?.first(where: { $0.code != MongoFault.duplicate }) {
                throw CohortError(
                    .unavailable, "\(connection.place) failed: \((failure.errmsg ?? "").printable(max: 300)) (\(failure.code))")
            }
        }
    }

    public func metrics(sessionId: String) async throws -> [MetricPoint] {
        try await connection.find(
            in: "metrics", where: "{\"session_id\":\(sessionId)}", options: "{\"sort\":{\"time\":1,\"_store.number\":1}}"
        )
        .map { try decode(MetricPoint.self, $0) }
    }
}

extension Double? {
    fileprivate var finite: Double? { flatMap { $0.isFinite ? $0 : nil } }
}
