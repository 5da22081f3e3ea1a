public import CohortCore
public import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    /// - Throws: ``CohortError`` `conflict` when there is a session of this id.
    public func insert(_ session: Session) async throws {
        let columns = try Columns(session)
        try await write { database in
            do {
                try database.run(
                    """
                    INSERT INTO sessions
                        (status, is_ending, revision, generation, lease_owner, lease_expires_at, document, id, owner_id, created_at, dataset_key)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """, columns.changing + [session.id, session.ownerId, session.createdAt.milliseconds, session.datasetKey])
            } catch let error as DatabaseError where error.isDuplicate {
                throw CohortError(.conflict, "there is a session \(session.id) already, or one with its data set key")
            }
        }
    }

    public func session(id: String) async throws -> Session? {
        try await read { database in try database.row("SELECT document FROM sessions WHERE id = ?", [id]).map(Session.init(row:)) }
    }

    public func sessions(ownerId: String, limit: Int) async throws -> [Session] {
        try await read { database in
            try database.rows(
                "SELECT document FROM sessions WHERE owner_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?", [ownerId, max(0, limit)]
            ).compactMap { try? Session(row: $0) }  // One that cannot be read hides no other.
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

    public func deleteSession(id: String) async throws {
        try await write { database in
            for table in ["metrics", "rounds", "answers"] {
                try database.run("DELETE FROM \(table) WHERE session_id = ?", [id])
            }
            try database.run("DELETE FROM sessions WHERE id = ?", [id])
        }
    }

    /// - Throws: ``CohortError`` `conflict` when someone else has stored since, `notFound` when there is no such session.
    public func update(_ session: Session, recording record: SessionRecord) async throws -> Session {
        var stored = session
        stored.revision += 1
        let columns = try Columns(stored)
        let rows = try RecordRows(record, sessionId: session.id)
        try await write { database in
            guard try Self.replace(columns, id: session.id, ifRevision: session.revision, in: database) else {
                guard let row = try database.row("SELECT revision FROM sessions WHERE id = ?", [session.id]) else {
                    throw CohortError(.notFound, "there is no session \(session.id)")
                }
                throw CohortError(
                    .conflict,
                    "session \(session.id) has changed: its revision is \(row["revision"] as Int), not \(session.revision); read it again")
            }
            try rows.insert(in: database)
            if session.status.isFinal { try database.run("DELETE FROM answers WHERE session_id = ?", [session.id]) }
        }
        return stored
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

    /// Taking and renewing are stored changes: they raise the revision.
    /// - Throws: ``CohortError`` `notFound` when there is no such session.
    public func lease(
        sessionId: String, owner: String, renewing generation: Int?, now: Date, expiresAt: Date
    ) async throws -> Session? {
        try await write { database in
            // Read and written inside one immediate transaction: nobody comes between.
            guard let row = try database.row("SELECT document FROM sessions WHERE id = ?", [sessionId]) else {
                throw CohortError(.notFound, "there is no session \(sessionId)")
            }
            var session = try Session(row: row)
            let revision = session.revision
            let mine = session.lease.map { $0.owner == owner } ?? true
            if let generation {
                // An expired lease that nobody has taken may still be renewed by its holder.
                guard mine, session.generation == generation else { return nil }
            } else {
                guard mine || session.lease.map({ $0.expiresAt <= now }) ?? true else { return nil }
                session.generation += 1
            }
            session.lease = Lease(owner: owner, expiresAt: expiresAt)
            session.revision += 1
            guard try Self.replace(try Columns(session), id: sessionId, ifRevision: revision, in: database) else {
                throw CohortError(.internal, "the revision column of session \(sessionId) does not agree with its document")
            }
            return session
        }
    }

    /// Compare-and-set in one statement.
    private static func replace(_ columns: Columns, id: String, ifRevision revision: Int, in database: Database) throws -> Bool {
        try database.run(
            """
            UPDATE sessions SET status = ?, is_ending = ?, revision = ?, generation = ?, lease_owner = ?, lease_expires_at = ?, document = ?
            WHERE id = ? AND revision = ?
            """, columns.changing + [id, revision]) == 1
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
    let generation: Int
    let leaseOwner: String?
    let leaseExpiresAt: Int64?
    let document: String

    init(_ session: Session) throws {
        status = session.status.rawValue
        isEnding = session.isEnding == true
        revision = session.revision
        generation = session.generation
        leaseOwner = session.lease?.owner
        leaseExpiresAt = session.lease?.expiresAt.milliseconds
        do {
            document = String(decoding: try CohortJSON.encode(session), as: UTF8.self)
        } catch {
            throw CohortError(.internal, "session \(session.id) cannot be stored as JSON: \(error)")
        }
    }

    var changing: StatementArguments { [status, isEnding, revision, generation, leaseOwner, leaseExpiresAt, document] }
}

extension Session {
    fileprivate init(row: Row) throws {
        let document: String = row["document"]
        do {
            self = try CohortJSON.decode(Session.self, from: document.utf8)
        } catch let error as CohortError {
            throw CohortError(.internal, "a stored session cannot be read: \(error.message)")
        }
    }
}
