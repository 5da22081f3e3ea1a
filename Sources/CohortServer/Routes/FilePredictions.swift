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
    /// Each has a model of its own, and blocks its thread.
    private let lanes = BlockingLanes("predictions of files", count: 1, limit: 8)

    init(objects: any ObjectStore, folder: String) {
        self.objects = objects
        self.folder = folder
    }

    /// - Throws: ``CohortError`` `invalid` for a CSV that cannot be predicted, with line and column; `tooLarge`; `storageFull`.
    func answer(_ request: Request, allowMissing: Bool, with object: ObjectReference, filename: String) async throws -> Response {
        let stem = "\(folder)/predict-\(newIdentifier())"
        let (given, made) = ("\(stem).csv", "\(stem).out")
        var isAnswered = false
        defer {
            Self.remove(given)
            if !isAnswered { Self.remove(made) }
        }
        try await receive(request, to: given)
        let model = try await objects.get(object.key)
        try await lanes.run { try Self.predict(given, to: made, model: model, allowMissing: allowMissing) }
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
                defer { Self.remove(made) }
                for try await chunk in FileReader.chunks(of: FilePath(made), from: 0) { try await writer.write(ByteBuffer(bytes: chunk)) }
                try await writer.finish(nil)
            })
    }

    private func receive(_ request: Request, to path: String) async throws {
        let tooLarge = CohortError(
            .tooLarge, "the CSV is too large; it must have at most \(Self.limit >> 20) MiB: `cohort predict` takes any")
        if let length = request.contentLength, length > Self.limit { throw tooLarge }
        let file = try Self.open(path)
        var count = 0
        do {
            for try await chunk in request.body {
                count += chunk.readableBytes
                guard count <= Self.limit else { throw tooLarge }
                _ = try file.writeAll(chunk.readableBytesView)
            }
            try file.close()
        } catch {
            try? file.close()  // The first error is the one to tell.
            switch error {
            case let error as CohortError: throw error
            case let error as Errno: throw CohortError(.storageFull, "the CSV cannot be kept while it is predicted: \(error)")
            case is CancellationError: throw error
            default: throw CohortError(.invalid, "the connection broke while the body was read")
            }
        }
        guard count > 0 else { throw CohortError(.invalid, "the body is empty; it must be a CSV") }
    }

    private static func predict(_ given: String, to made: String, model: [UInt8], allowMissing: Bool) throws {
        let predictor = try Predictor(ModelFile.decode(model))
        let csv = PredictionCSV(predictor.file.schema, keepsColumns: true)
        let file = try open(made)
        defer { try? file.close() }  // What was written is there.
        var buffer: [UInt8] = []
        func flush() throws {
            do {
                _ = try file.writeAll(buffer)
            } catch {
                throw CohortError(.storageFull, "the predictions cannot be kept: \(error)")
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

    private static func open(_ path: String) throws -> SystemPackage.FileDescriptor {
        do {
            return try SystemPackage.FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerRead, .ownerWrite])
        } catch {
            throw CohortError(.storageFull, "a file cannot be made in the data folder: \(error)")
        }
    }

    /// One that is not there, or stays, is no reason to fail.
    private static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
}
