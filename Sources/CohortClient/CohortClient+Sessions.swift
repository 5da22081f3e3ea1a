import AsyncHTTPClient
public import CohortAPI
public import CohortCore
public import CohortSession
public import CohortWire
import NIOCore
import NIOHTTP1
import _NIOFileSystem

extension CohortClient {
    /// Uploads the CSV at `path`, streamed from disk, and starts a session on it.
    /// - Parameter progress: told how many of the file's bytes are sent; called often, on no particular thread.
    /// - Throws: `invalid` when there is no such file; what the server says against the settings.
    public func startSession(
        _ settings: SessionSettings, file path: String, progress: @escaping @Sendable (_ sent: Int, _ total: Int) -> Void = { _, _ in }
    ) async throws -> API.SessionStarted {
        let path = FilePath(path)
        let fields = try settings.formFields()
        return try await Self.readableFile(path) {
            try await FileSystem.shared.withFileHandle(forReadingAt: path) { handle in
                let info = try await handle.info()
                guard info.type == .regular else { throw CohortError(.invalid, "\(path) is not a file") }
                let upload = MultipartUpload(
                    fields: fields, filename: path.lastComponent?.string ?? "data.csv", handle: handle, fileBytes: info.size,
                    progress: progress)
                var call = HTTPCall.post("sessions", "start")
                call.headers = ["Content-Type": "multipart/form-data; boundary=\(upload.boundary)"]
                call.body = .stream(upload, length: .known(upload.byteCount))
                // As long as it takes: a connection that breaks says so, and a server that takes the whole file and then stays silent
                // is found by the client's read time-out.
                call.timeout = .hours(24)
                return try await caller.fetch(call)
            }
        }
    }

    /// Checks whether a session with these settings could start now.
    /// - Parameter sha256: of the file, lowercase hexadecimal: whether the server has it already is answered too.
    /// - Throws: `notEnoughPeers` when too few peers are free; what the server says against the settings.
    public func check(_ settings: SessionSettings, sha256: String? = nil) async throws -> API.SessionCheck {
        var fields = Dictionary(try settings.formFields().map { ($0.name, JSONScalar.text($0.value)) }) { $1 }
        if let sha256 { fields["sha256"] = .text(sha256) }
        var call = try HTTPCall.post("sessions", "check", json: fields)
        call.retries = 2
        return try await caller.fetch(call)
    }

    /// Starts a session on a file that an earlier session of the user was trained on.
    /// - Throws: `notFound` when the server has no such file: upload it.
    public func startSession(_ settings: SessionSettings, sha256: String, filename: String) async throws -> API.SessionStarted {
        let boundary = "cohort-\(newIdentifier())"
        let fields = try settings.formFields() + [("sha256", sha256), ("filename", filename)]
        var call = HTTPCall.post("sessions", "start")
        call.headers = ["Content-Type": "multipart/form-data; boundary=\(boundary)"]
        call.body = .bytes(ByteBuffer(string: MultipartUpload.text(fields, boundary: boundary) + "--\(boundary)--\r\n"))
        return try await caller.fetch(call)
    }

    /// The user's modules.
    public func modules() async throws -> [API.Module] { try await caller.fetch(.get("modules")) }

    /// Uploads a module's file, streamed from disk.
    /// - Throws: `invalid` when there is no such file, or when the server does not accept it as a module.
    public func addModule(at path: String) async throws -> API.Module {
        let path = FilePath(path)
        return try await Self.readableFile(path) {
            try await FileSystem.shared.withFileHandle(forReadingAt: path) { handle in
                let info = try await handle.info()
                guard info.type == .regular else { throw CohortError(.invalid, "\(path) is not a file") }
                var call = HTTPCall.post("modules")
                call.headers = ["Content-Type": "application/octet-stream"]
                call.body = .stream(handle.readChunks(), length: .known(info.size))
                call.timeout = .hours(24)
                return try await caller.fetch(call)
            }
        }
    }

    public func deleteModule(sha256: String) async throws { try await caller.send(.delete("modules", sha256)) }

    /// The user's sessions, newest first.
    /// - Parameter before: the id of the last session of the page before.
    public func sessions(limit: Int = 1_000, before: String? = nil) async throws -> [SessionSummary] {
        try await caller.fetch(.get("sessions", query: [("limit", "\(limit)")] + (before.map { [("before", $0)] } ?? [])))
    }

    /// Deletes a session that has ended, with its data and its model.
    public func deleteSession(id: String) async throws { try await caller.send(.delete("sessions", id)) }

    public func session(id: String) async throws -> API.SessionView { try await caller.fetch(.get("sessions", id)) }

    /// - Parameter id: nil for the newest session.
    public func trainingStatus(id: String? = nil) async throws -> API.TrainingStatus {
        try await caller.fetch(.get("sessions", "training-status", query: id.map { [("session_id", $0)] } ?? []))
    }

    /// The events of a session from now on. Ends when the server ends it: at the end of the session, or when the server stops;
    /// ``trainingStatus(id:)`` knows which. Nothing is buffered beyond the connection.
    /// - Throws: `unavailable`, here or while iterating, when the server goes away: subscribe again.
    public func events(id: String) async throws -> AsyncThrowingStream<SessionNotice, any Error> {
        let source = try await eventSource(HTTPCall(path: ["sessions", id, "events"], retries: 2))
        return AsyncThrowingStream {
            while let event = try await source.next() {
                // Notices of unknown kinds are ignored.
                if let notice = try? CohortJSON.decode(SessionNotice.self, from: event.data) { return notice }
            }
            return nil
        }
    }

    /// Changes of the pool: all peers at first, then those that change. Nothing is buffered beyond the connection.
    /// - Throws: `unavailable`, here or while iterating, when the server goes away: subscribe again.
    public func poolChanges() async throws -> AsyncThrowingStream<API.PeersChange, any Error> {
        let source = try await eventSource(HTTPCall(path: ["peers", "events"], retries: 2))
        return AsyncThrowingStream {
            while let event = try await source.next() {
                if event.name == "peers" { return try CohortJSON.decode(API.PeersChange.self, from: event.data) }
            }
            return nil
        }
    }

    public func cancel(id: String) async throws {
        var call = HTTPCall.post("sessions", id, "cancel")
        call.retries = 2
        try await caller.send(call)
    }

    public func results(id: String) async throws -> API.Results { try await caller.fetch(.get("sessions", id, "results")) }

    /// The receipt of the model.
    public func receipt(id: String) async throws -> SessionReceipt { try await caller.fetch(.get("sessions", id, "receipt")) }

    /// One of the receipt's files.
    public func update(id: String, key: String) async throws -> [UInt8] {
        var call = HTTPCall.get("sessions", id, "update")
        call.query = [("key", key)]
        return Array(try await caller.body(of: try await caller.open(call)).readableBytesView)
    }

    /// The session's time series.
    public func metrics(id: String) async throws -> [MetricPoint] { try await caller.fetch(.get("sessions", id, "metrics")) }

    /// Writes the model file to `path`, which appears whole or not at all.
    /// - Returns: its size in bytes.
    @discardableResult
    public func downloadModel(id: String, to path: String) async throws -> Int {
        let response = try await caller.open(.get("sessions", id, "model"))
        return try await FileDownload.write(response.body, to: path, remote: .server(server))
    }

    public func predict(id: String, rows: [[String: JSONScalar]]) async throws -> API.Prediction {
        var call = try HTTPCall.post("sessions", id, "predict", json: API.PredictRequest(rows: rows))
        call.retries = 2
        return try await caller.fetch(call)
    }

    func eventSource(_ call: HTTPCall) async throws -> EventSource {
        var call = call
        call.headers.replaceOrAdd(name: "Accept", value: "text/event-stream")
        return EventSource(body: try await caller.open(call).body, server: server)
    }

    static func readableFile<Value: Sendable>(_ path: FilePath, _ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as FileSystemError {
            throw error.code == .notFound
                ? CohortError(.invalid, "there is no file \(path)") : CohortError(.invalid, "\(path) cannot be read: \(error)")
        }
    }
}
