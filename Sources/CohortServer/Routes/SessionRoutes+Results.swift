import CohortAPI
import CohortCore
import CohortSession
import CohortTracing
import CohortWire
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging
import NIOCore

/// Metrics, models, updates and predictions.
extension SessionRoutes {
    func series(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        let points = try await documents.metrics(sessionId: session.id)
        let format = request.query("format") ?? (request.headers[.accept]?.contains("text/csv") == true ? "csv" : "json")
        switch format {
        case "json": return try .json(points)
        case "csv": return .text(Self.csv(points), type: "text/csv; charset=utf-8")
        default: throw CohortError(.invalid, "format is '\(format.prefix(40))'; it must be json or csv")
        }
    }

    private static func csv(_ points: [MetricPoint]) -> String {
        func number(_ value: Double?) -> String { value.map { "\($0)" } ?? "" }
        var text = "time,peer_id,peer_name,round,epoch,loss,accuracy,r2,samples_per_second\r\n"
        for point in points {
            let time = point.time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
            text +=
                "\(time),\(point.peerId ?? ""),\(point.peerName?.csvName ?? ""),\(point.round),\(point.epoch),\(number(point.loss)),\(number(point.accuracy)),\(number(point.r2)),\(number(point.samplesPerSecond))\r\n"
        }
        return text
    }

    func model(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        guard let object = session.modelObject else { throw missing(session, "model") }
        let headers: HTTPFields = [.contentDisposition: "attachment; filename=\"\(session.id).safetensors\""]
        return try await .download(request, object, headers: headers) { try await parts.objects.read(object.key, from: $0) }
    }

    func update(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        let key = request.query("key") ?? ""
        var object = session.startWeights?.key == key ? session.startWeights : nil
        if object == nil {
            let contributions = try await documents.rounds(sessionId: session.id).flatMap { $0.contributions ?? [] }
            object = contributions.first { $0.key == key }.map { ObjectReference(key: key, sha256: $0.sha256, bytes: 0) }
        }
        guard var object else {
            throw CohortError(.invalid, "key is '\(key.printable(max: 200))'; it must be a key in the receipt of the session")
        }
        guard let bytes = try await parts.objects.size(of: key) else { throw CohortError(.notFound, "the update is not there any more") }
        object.bytes = bytes
        return try await .download(request, object) { try await parts.objects.read(key, from: $0) }
    }

    func predict(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let session = try await session(context, caller)
        guard let object = session.modelObject else { throw missing(session, "model") }
        let body = try await request.json(API.PredictRequest.self, fields: ["rows", "allow_missing"], upTo: 16 << 20)
        guard (1...10_000).contains(body.rows.count) else {
            throw CohortError(.invalid, "rows has \(body.rows.count) rows; it must have 1 to 10000")
        }
        return try .json(
            try await models.predict(body.rows.map { $0.mapValues(\.cell) }, allowMissing: body.allowMissing == true, with: object))
    }
}
