import CohortCore
public import CohortSession
import CohortWire
public import FoundationEssentials
import GRDB

/// Leases of sessions.
extension SQLiteDocuments {
    /// - Throws: ``CohortError`` `notFound` when there is no such session.
    public func takeLease(sessionId: String, owner: String, now: Date, expiresAt: Date) async throws -> Session? {
        try await write { database in
            let taken = try database.run(
                """
                UPDATE sessions SET generation = generation + 1, lease_owner = ?1, lease_expires_at = ?2
                WHERE id = ?3 AND (lease_owner IS NULL OR lease_owner = ?1 OR lease_expires_at <= ?4)
                """, [owner, expiresAt.milliseconds, sessionId, now.milliseconds])
            guard let row = try database.row("SELECT \(Self.stored) FROM sessions WHERE id = ?", [sessionId]) else {
                throw CohortError(.notFound, "there is no session \(sessionId)")
            }
            return taken == 1 ? try Session(row: row) : nil
        }
    }

    /// An expired lease that no other coordinator has taken may still be renewed by its holder.
    public func renewLease(sessionId: String, owner: String, generation: Int, expiresAt: Date) async throws -> HeldLease? {
        try await write { database in
            let renewed = try database.run(
                "UPDATE sessions SET lease_expires_at = ? WHERE id = ? AND lease_owner = ? AND generation = ?",
                [expiresAt.milliseconds, sessionId, owner, generation])
            guard renewed == 1 else { return nil }
            return try database.row("SELECT cancel_requested FROM sessions WHERE id = ?", [sessionId])
                .map { HeldLease(cancelRequested: $0["cancel_requested"]) }
        }
    }

    public func requestCancel(sessionId: String) async throws -> Session? {
        try await write { database in
            try database.run(
                "UPDATE sessions SET cancel_requested = 1 WHERE id = ? AND status IN ('PENDING', 'RUNNING')", [sessionId])
            return try database.row("SELECT \(Self.stored) FROM sessions WHERE id = ?", [sessionId]).map(Session.init(row:))
        }
    }
}
