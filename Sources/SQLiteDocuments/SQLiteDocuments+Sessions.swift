import CohortCore
public import CohortSession
public import CohortWire
import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    /// - Throws: ``CohortError`` `conflict` when there is a session of this id.
    public func insert(_ session: Session, sharesUpload: Bool) async throws {
        let columns = try Columns(session)
        let labels = try session.labels.map { String(decoding: try CohortJSON.encode($0), as: UTF8.self) }
        try await write { database in
            // In one transaction: what is shared is there until this session is.
            if let key = session.upload?.key {
                let others =
                    sharesUpload
                    ? "owner_id = ? AND json_extract(document, '$.dataset') IS NOT NULL" : "? IS NOT NULL"
                let isTaken = try !database.rows(
                    "SELECT 1 FROM sessions WHERE dataset_key = ? AND \(others) LIMIT 1", [key, session.ownerId]
                ).isEmpty
                guard isTaken == sharesUpload else { throw Self.upload(key, isShared: sharesUpload) }
            }
            do {
                try database.run(
                    """
                    INSERT INTO sessions
                        (status, is_ending, revision, document, generation, lease_owner, lease_expires_at, cancel_requested, labels, id, owner_id,
                         created_at, dataset_key)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                    columns.changing + [
                        session.generation, session.lease?.owner, session.lease?.expiresAt.milliseconds, session.cancelRequested, labels,
                        session.id,
                        session.ownerId, session.createdAt.milliseconds, session.upload?.key,
                    ])
            } catch let error as DatabaseError where error.isDuplicate {
                throw CohortError(.conflict, "there is a session \(session.id) already")
            }
        }
    }

    private static func upload(_ key: String, isShared: Bool) -> CohortError {
        isShared
            ? CohortError(.notFound, "no session has the upload \(key) any more")
            : CohortError(.conflict, "there is a session with the data set key \(key) already")
    }

    public func session(id: String) async throws -> Session? {
        try await read { database in try database.row("SELECT \(Self.stored) FROM sessions WHERE id = ?", [id]).map(Session.init(row:)) }
    }

    public func sessions(ownerId: String, limit: Int, before id: String?) async throws -> [Session] {
        try await read { database in
            try database.rows(
                """
                SELECT \(Self.stored) FROM sessions
                WHERE owner_id = ?1 AND (?2 IS NULL OR (created_at, rowid) < (SELECT created_at, rowid FROM sessions WHERE id = ?2))
                ORDER BY created_at DESC, rowid DESC LIMIT ?3
                """, [ownerId, id, max(0, limit)]
            ).compactMap { try? Session(row: $0) }  // One that cannot be read hides no other.
        }
    }

    /// SQLite extracts the shown fields of completed sessions, the majority; the progress of others comes from the whole document.
    public func sessionSummaries(ownerId: String, limit: Int, before id: String?) async throws -> [SessionSummary] {
        try await read { database in
            try database.rows(
                """
                SELECT CASE WHEN status = 'COMPLETED' THEN NULL ELSE document END AS document,
                    revision, generation, lease_owner, lease_expires_at, cancel_requested, labels,
                    CASE WHEN status = 'COMPLETED' THEN json_object(
                        'id', id, 'name', json_extract(document, '$.settings.name'), 'status', status,
                        'created_at', json_extract(document, '$.created_at'), 'started_at', json_extract(document, '$.started_at'),
                        'ended_at', json_extract(document, '$.ended_at'), 'filename', json_extract(document, '$.filename'),
                        'strategy', json_extract(document, '$.settings.strategy'),
                        'peers', (SELECT json_group_array(json_extract(value, '$.name')) FROM json_each(document, '$.peers')),
                        'target', coalesce(
                            json_extract(document, '$.dataset.target'), json_extract(document, '$.dataset.schema.target'),
                            json_extract(document, '$.settings.target')),
                        'task', coalesce(json_extract(document, '$.dataset.task'), json_extract(document, '$.dataset.schema.task')),
                        'seed', json_extract(document, '$.settings.seed'), 'version', json_extract(document, '$.model_version'), 'progress', 1.0,
                        'metrics', json_extract(document, '$.results.metrics'), 'error', json_extract(document, '$.error'),
                        'note', coalesce(json_extract(labels, '$.note'), json_extract(document, '$.settings.note')),
                        'tags', json_extract(labels, '$.tags')) END AS summary
                FROM sessions
                WHERE owner_id = ?1 AND (?2 IS NULL OR (created_at, rowid) < (SELECT created_at, rowid FROM sessions WHERE id = ?2))
                ORDER BY created_at DESC, rowid DESC LIMIT ?3
                """, [ownerId, id, max(0, limit)]
            ).compactMap { row in
                // One that cannot be read hides no other.
                guard let summary = row["summary"] as String? else { return (try? Session(row: row)).map { SessionSummary($0) } }
                return try? CohortJSON.decode(SessionSummary.self, from: summary.utf8)
            }
        }
    }

    public func unfinishedSessions() async throws -> [String] {
        try await read { database in
            try database.rows("SELECT id FROM sessions WHERE status IN ('PENDING', 'RUNNING') OR is_ending ORDER BY created_at, rowid")
                .map { $0["id"] as String }
        }
    }

    public func sessionCounts() async throws -> [SessionStatus: Int] {
        try await read { database in
            var counts: [SessionStatus: Int] = [:]
            for row in try database.rows("SELECT status, count(*) AS number FROM sessions GROUP BY status") {
                if let status = SessionStatus(rawValue: row["status"]) { counts[status] = row["number"] }
            }
            return counts
        }
    }

    public func usedUploads(of keys: [String], besides sessionId: String?) async throws -> Set<String> {
        try await read { database in
            var used: Set<String> = []
            for key in keys
            where try !database.rows("SELECT 1 FROM sessions WHERE dataset_key = ? AND id IS NOT ? LIMIT 1", [key, sessionId]).isEmpty {
                used.insert(key)
            }
            return used
        }
    }

    public func takeModelVersion(of session: Session) async throws -> Int {
        try await write { database in
            if let row = try database.row("SELECT version FROM model_versions WHERE session_id = ?", [session.id]) { return row["version"] }
            let highest = try database.row(
                """
                SELECT max(coalesce((SELECT max(version) FROM model_versions WHERE owner_id = ?1 AND title = ?2), 0),
                    coalesce((SELECT max(json_extract(document, '$.model_version')) FROM sessions
                        WHERE owner_id = ?1 AND id <> ?3
                            AND coalesce(json_extract(document, '$.settings.name'), json_extract(document, '$.filename')) = ?2), 0)) AS version
                """, [session.ownerId, session.title, session.id])
            let version = (highest?["version"] ?? 0) + 1
            try database.run(
                "INSERT INTO model_versions (session_id, owner_id, title, version) VALUES (?, ?, ?, ?)",
                [session.id, session.ownerId, session.title, version])
            return version
        }
    }

    public func deleteSession(id: String) async throws {
        try await write { database in
            for table in ["metrics", "rounds", "answers", "model_versions"] {
                try database.run("DELETE FROM \(table) WHERE session_id = ?", [id])
            }
            try database.run("DELETE FROM sessions WHERE id = ?", [id])
        }
    }

    /// - Throws: ``CohortError`` `conflict` when someone else has stored since, `notFound` when there is no such session.
    public func update(_ session: Session, recording record: SessionRecord) async throws -> Session {
        var next = session
        next.revision += 1
        let columns = try Columns(next)
        let rows = try RecordRows(record, sessionId: session.id)
        let changed = next
        return try await write { database in
            guard try Self.replace(columns, session, in: database) else {
                guard let row = try database.row("SELECT revision, generation FROM sessions WHERE id = ?", [session.id]) else {
                    throw CohortError(.notFound, "there is no session \(session.id)")
                }
                throw CohortError(
                    .conflict,
                    "session \(session.id) has changed: its revision is \(row["revision"] as Int) of generation \(row["generation"] as Int), not \(session.revision) of \(session.generation); read it again"
                )
            }
            try rows.insert(in: database)
            if session.status.isFinal { try database.run("DELETE FROM answers WHERE session_id = ?", [session.id]) }
            var stored = changed
            guard
                let row = try database.row(
                    "SELECT lease_owner, lease_expires_at, cancel_requested, labels FROM sessions WHERE id = ?", [session.id])
            else { return stored }
            try stored.takeOthers(of: row)
            return stored
        }
    }

    public func setLabels(_ labels: SessionLabels, sessionId: String) async throws -> SessionLabels? {
        var next = labels
        next.revision += 1
        let stored = next
        let text = String(decoding: try CohortJSON.encode(stored), as: UTF8.self)
        return try await write { database in
            let changed = try database.run(
                "UPDATE sessions SET labels = ? WHERE id = ? AND coalesce(json_extract(labels, '$.revision'), 0) = ?",
                [text, sessionId, labels.revision])
            return changed == 1 ? stored : nil
        }
    }

    public func record(_ record: SessionRecord, sessionId: String, generation: Int) async throws {
        let rows = try RecordRows(record, sessionId: sessionId)
        try await write { database in
            guard let row = try database.row("SELECT generation FROM sessions WHERE id = ?", [sessionId]) else {
                throw CohortError(.notFound, "there is no session \(sessionId)")
            }
            guard row["generation"] == generation else {
                throw CohortError(
                    .conflict, "session \(sessionId) is of generation \(row["generation"] as Int) by now, not \(generation)")
            }
            try rows.insert(in: database)
        }
    }

    public func answers(sessionId: String) async throws -> [RecordedAnswer] {
        try await read { database in
            try database.rows("SELECT document FROM answers WHERE session_id = ? ORDER BY peer_id", [sessionId]).map { row in
                try CohortJSON.decode(RecordedAnswer.self, from: (row["document"] as String).utf8)
            }
        }
    }

    public func rounds(sessionId: String) async throws -> [RoundSummary] {
        try await read { database in
            try database.rows("SELECT document FROM rounds WHERE session_id = ? ORDER BY round", [sessionId]).map { row in
                try CohortJSON.decode(RoundSummary.self, from: (row["document"] as String).utf8)
            }
        }
    }

    /// The document, and the columns that are true in its stead.
    static let stored = "document, revision, generation, lease_owner, lease_expires_at, cancel_requested, labels"

    /// Compare-and-set in one statement.
    private static func replace(_ columns: Columns, _ session: Session, in database: Database) throws -> Bool {
        try database.run(
            """
            UPDATE sessions SET status = ?, is_ending = ?, revision = ?, document = ? WHERE id = ? AND revision = ? AND generation = ?
            """, columns.changing + [session.id, session.revision, session.generation]) == 1
    }
}

/// The rows of a ``SessionRecord``, made before the transaction begins.
private struct RecordRows: Sendable {
    let sessionId: String
    let points: [MetricPoint]
    let rounds: [(round: Int, document: String)]
    let answers: [(peerId: String, document: String)]

    init(_ record: SessionRecord, sessionId: String) throws {
        self.sessionId = sessionId
        points = record.points
        rounds = try record.rounds.map { ($0.round, String(decoding: try CohortJSON.encode($0), as: UTF8.self)) }
        answers = try record.answers.map { ($0.peerId, String(decoding: try CohortJSON.encode($0), as: UTF8.self)) }
    }

    func insert(in database: Database) throws {
        try SQLiteDocuments.append(points, in: database)
        for (round, document) in rounds {
            try database.run("INSERT OR REPLACE INTO rounds (session_id, round, document) VALUES (?, ?, ?)", [sessionId, round, document])
        }
        for (peerId, document) in answers {
            try database.run(
                "INSERT OR REPLACE INTO answers (session_id, peer_id, document) VALUES (?, ?, ?)", [sessionId, peerId, document])
        }
    }
}

/// A session's row, made from the document alone so that columns and document agree.
private struct Columns: Sendable {
    let status: String
    let isEnding: Bool
    let revision: Int
    let document: String

    init(_ session: Session) throws {
        status = session.status.rawValue
        isEnding = session.isEnding == true
        revision = session.revision
        do {
            document = String(decoding: try CohortJSON.encode(session), as: UTF8.self)
        } catch {
            throw CohortError(.internal, "session \(session.id) could not be stored as JSON: \(error)")
        }
    }

    var changing: StatementArguments { [status, isEnding, revision, document] }
}

extension Session {
    init(row: Row) throws {
        let document: String = row["document"]
        do {
            self = try CohortJSON.decode(Session.self, from: document.utf8)
        } catch let error as CohortError {
            throw CohortError(.internal, "a stored session cannot be read: \(error.message)")
        }
        revision = row["revision"]
        generation = row["generation"]
        try takeOthers(of: row)
    }

    /// What is not the document's.
    fileprivate mutating func takeOthers(of row: Row) throws {
        let owner: String? = row["lease_owner"]
        let expiresAt: Int64? = row["lease_expires_at"]
        lease = owner.flatMap { owner in expiresAt.map { Lease(owner: owner, expiresAt: Date(milliseconds: $0)) } }
        cancelRequested = row["cancel_requested"]
        labels = try (row["labels"] as String?).map { try CohortJSON.decode(SessionLabels.self, from: $0.utf8) }
    }
}
