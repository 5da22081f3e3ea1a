import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization

/// The packed table of a session for the machines that train on it: each gets the rows that were dealt to it, while the session runs.
struct TableRoutes: Sendable {
    let documents: any Documents
    let objects: any ObjectStore
    let presence: PresenceMonitor
    let time: any TimeSource
    private let manifests = KnownTables()
    /// Parts that are in memory at a time, to be cut.
    private let cutting = (0..<4).map { _ in SerialQueue() }

    init(documents: any Documents, objects: any ObjectStore, presence: PresenceMonitor, time: any TimeSource) {
        self.documents = documents
        self.objects = objects
        self.presence = presence
        self.time = time
    }

    /// Seconds that a redirect's link is valid.
    private static let linkSeconds = 60.0

    var routes: [Route] {
        [
            .machine(.get, "/peers/{id}/sessions/{session}/table", "The manifest of the table that a session trains on") {
                request, context, caller, peer in
                let (table, _) = try await granted(in: context, caller: caller, peer: peer)
                return try await whole(request, table.reference)
            },
            .machine(.get, "/peers/{id}/sessions/{session}/table/dictionary", "The vectors that codes in its rows stand for") {
                request, context, caller, peer in
                let (table, _) = try await granted(in: context, caller: caller, peer: peer)
                return try await bytes(table.dictionary())
            },
            .machine(.get, "/peers/{id}/sessions/{session}/parts/{part}", "Rows of a part that were dealt to this peer", part),
        ]
    }

    /// Rows `start ..< end` of the table, which lie in this part; without them the whole part.
    private func part(
        _ request: Request, _ context: Context, _ caller: Caller, _ peer: (id: String, registration: Int)
    ) async throws -> Response {
        let (table, dealt) = try await granted(in: context, caller: caller, peer: peer)
        let parts = table.manifest.parts
        let text = try context.parameters.require("part")
        guard let number = Int(text), 0..<parts.count ~= number else {
            throw CohortError(.notFound, "the table has no part '\(text.printable(max: 20))': its parts are 0 to \(parts.count - 1)")
        }
        let there = parts.rows(of: number)
        let rows = RowRange(
            start: try request.number("start", in: 0...parts.rows) ?? there.lowerBound,
            end: try request.number("end", in: 0...parts.rows) ?? there.upperBound)
        guard rows.count > 0, there.lowerBound <= rows.start, rows.end <= there.upperBound else {
            throw CohortError(
                .invalid,
                "rows \(rows.start) to \(rows.end) are not in part \(number), which has rows \(there.lowerBound) to \(there.upperBound)")
        }
        guard dealt.contains(rows) else {
            throw CohortError(.forbidden, "rows \(rows.start) to \(rows.end) were not dealt to this peer")
        }
        if rows.count == there.count {
            return try await whole(
                request,
                ObjectReference(
                    key: table.key(ofPart: number), sha256: table.manifest.partSha256[number], bytes: there.count * parts.recordBytes))
        }
        let size = parts.recordBytes
        return try await cutting[number % cutting.count].run {
            let all = try await table.part(number)
            return try await bytes(Array(all[((rows.start - there.lowerBound) * size)..<((rows.end - there.lowerBound) * size)]))
        }
    }

    /// - Returns: the table, and what of it the peer may have.
    /// - Throws: ``CohortError`` `forbidden` when the peer is not in the session, `conflict` when the session is over.
    private func granted(
        in context: Context, caller: Caller, peer: (id: String, registration: Int)
    ) async throws -> (StoredTable, RowSet) {
        try await presence.check(peer, caller)
        let id = try context.parameters.require("session")
        let session = try await documents.session(id: id)
        guard let session, let place = session.peers.first(where: { $0.id == peer.id }), place.isAlive else {
            throw CohortError(.forbidden, "this peer is not in session '\(id.printable(max: 60))'")
        }
        guard session.status == .running else { throw CohortError(.conflict, "session '\(id)' does not run any more") }
        if let known = manifests.table(of: id) { return (known, place.dealt ?? RowSet()) }
        let table = try await StoredTable(sessionId: id, in: objects)
        manifests.keep(table, of: id)
        return (table, place.dealt ?? RowSet())
    }

    private func whole(_ request: Request, _ object: ObjectReference) async throws -> Response {
        guard objects is any ServedObjectStore else {
            let url = try await objects.presignedGet(object.key, expiry: time.date.addingTimeInterval(Self.linkSeconds))
            return Response(status: .temporaryRedirect, headers: [.location: url, .cacheControl: "no-store"])
        }
        return try await .download(request, object) { try await objects.read(object.key, from: $0) }
    }

    private func bytes(_ bytes: [UInt8]) async throws -> Response {
        let digest = Data(SHA256.hash(data: bytes)).base64EncodedString()
        return Response(
            status: .ok, headers: [.contentType: "application/octet-stream", .reprDigest: "sha-256=:\(digest):"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}

extension HTTPField.Name {
    /// RFC 9530.
    fileprivate static var reprDigest: HTTPField.Name { HTTPField.Name("Repr-Digest") ?? .eTag }
}

/// Manifests of the sessions that run.
private final class KnownTables: Sendable {
    private static let limit = 32
    private let tables = Mutex<[String: StoredTable]>([:])

    func table(of session: String) -> StoredTable? { tables.withLock { $0[session] } }

    func keep(_ table: StoredTable, of session: String) {
        tables.withLock { tables in
            if tables.count >= Self.limit { tables.removeAll() }
            tables[session] = table
        }
    }
}
