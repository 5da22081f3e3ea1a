import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore
import SystemPackage

/// Predicts a whole CSV, which comes back with the predictions behind its columns. Both files lie in the data folder while it lasts.
final class FilePredictions: Sendable {
    /// Bytes of a CSV.
    static let limit = 256 << 20

    private let objects: any ObjectStore
    private let folder: String
    /// Each prediction loads its model and blocks a thread.
    private let lanes = BlockingLanes("predictions of files", count: 1, limit: 8)

    init(objects: any ObjectStore, folder: String) {
        self.objects = objects
        self.folder = folder
    }

    /// - Throws: ``CohortError`` `invalid` for an invalid CSV, with line and column; `tooLarge`; `storageFull`.
    func answer(_ request: Request, allowMissing: Bool, with object: ObjectReference, filename: String) async throws -> Response {
        let stem = TemporaryFiles.path("predict", in: folder)
        let made = "\(stem).out"
        var isAnswered = false
        defer { if !isAnswered { BodyFile.remove(made) } }
        let given = try await BodyFile(
            request, at: "\(stem).csv", limit: Self.limit, isUnpacked: true,
            tooLarge: CohortError(
                .tooLarge, "the CSV is too large; it must have at most \(Self.limit >> 20) MiB: `cohort predict` takes any"),
            what: "a CSV")
        let model = try await objects.get(object.key)
        try await lanes.run { try Self.predict(given.path, to: made, model: model, allowMissing: allowMissing) }
        let bytes: Int
        do {
            bytes = try FileManager.default.attributesOfItem(atPath: made)[.size] as? Int ?? 0
        } catch {
            throw CohortError(.internal, "the predictions are gone: \(error)")
        }
        isAnswered = true
        return Response(
            status: .ok,
            headers: [.contentType: "text/csv; charset=utf-8", .contentDisposition: "attachment; filename=\"\(filename)\""],
            body: ResponseBody(contentLength: bytes) { writer in
                defer { BodyFile.remove(made) }
                for try await chunk in FileReader.chunks(of: FilePath(made), from: 0) { try await writer.write(ByteBuffer(bytes: chunk)) }
                try await writer.finish(nil)
            })
    }

    private static func predict(_ given: String, to made: String, model: [UInt8], allowMissing: Bool) throws {
        let predictor = try Predictor(ModelFile.decode(model))
        let csv = PredictionCSV(predictor.file.schema, keepsColumns: true)
        let file = try BodyFile.open(made)
        defer { try? file.close() }  // What was written is there.
        var buffer: [UInt8] = []
        func flush() throws {
            do {
                _ = try file.writeAll(buffer)
            } catch {
                throw CohortError(.storageFull, "the predictions could not be written: \(error)")
            }
            buffer.removeAll(keepingCapacity: true)
        }
        func add(_ line: String) throws {
            buffer += line.utf8
            buffer.append(0x0a)
            if buffer.count >= 1 << 20 { try flush() }
        }
        try predictor.predict(
            csvAt: given, options: .init(allowMissing: allowMissing, keepsFields: true),
            begin: { columns, _ in try add(csv.header(columns)) },
            { prediction, row in
                try add(csv.line(prediction, row))
                return true
            })
        try flush()
    }
}
