import CohortCore
public import CohortSession
import CohortWire
public import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    public func register(_ peer: Peer) async throws -> Peer {
        let capabilities = String(decoding: try CohortJSON.encode(peer.capabilities), as: UTF8.self)
        return try await write { database in
            let earlier = try database.row(
                """
                SELECT owner_id, session_id, registration FROM peers WHERE id = ?1
                UNION ALL SELECT NULL, NULL, registration FROM deleted_peers WHERE id = ?1
                """, [peer.id])
            if let owner = earlier?["owner_id"] as String?, owner != peer.ownerId {
                throw CohortError(
                    .conflict, "the peer id \(peer.id) belongs to another user: start the peer with a different data folder")
            }
            var stored = peer
            stored.sessionId = earlier?["session_id"]
            stored.status = stored.sessionId == nil ? .online : .training
            stored.registration = (earlier?["registration"] as Int?).map { $0 + 1 } ?? peer.registration
            try Self.replace(stored, capabilities: capabilities, in: database)
            try database.run("DELETE FROM deleted_peers WHERE id = ?", [peer.id])
            return stored
        }
    }

    static func replace(_ peer: Peer, capabilities: String, in database: Database) throws {
        try database.run(
            """
            INSERT OR REPLACE INTO peers
                (id, name, owner_id, token_id, capabilities, serve, status, session_id, registration, registered_at, last_seen, offline_reason)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            [
                peer.id, peer.name, peer.ownerId, peer.tokenId, capabilities, peer.serve.rawValue, peer.status.rawValue, peer.sessionId,
                peer.registration, peer.registeredAt.milliseconds, peer.lastSeen.milliseconds, peer.offlineReason?.rawValue,
            ])
    }

    public func peer(id: String) async throws -> Peer? {
        try await read { database in try database.row("SELECT * FROM peers WHERE id = ?", [id]).map(Peer.init(row:)) }
    }

    public func peers() async throws -> [Peer] {
        try await read { database in try database.rows("SELECT * FROM peers ORDER BY name, id").compactMap { try? Peer(row: $0) } }
    }

    public func peers(visibleTo ownerId: String) async throws -> [Peer] {
        try await read { database in
            // A row that cannot be read hides no other.
            try database.rows("SELECT * FROM peers WHERE owner_id = ? OR serve = ? ORDER BY name, id", [ownerId, Pool.everyone.rawValue])
                .compactMap { try? Peer(row: $0) }
        }
    }

    public func peerCounts() async throws -> [PeerStatus: Int] {
        try await read { database in
            var counts: [PeerStatus: Int] = [:]
            for row in try database.rows("SELECT status, count(*) AS count FROM peers GROUP BY status", []) {
                if let status = PeerStatus(rawValue: row["status"]) { counts[status] = row["count"] }
            }
            return counts
        }
    }

    public func peers(ofSession sessionId: String) async throws -> [Peer] {
        try await read { database in
            try database.rows("SELECT * FROM peers WHERE session_id = ?", [sessionId]).compactMap { try? Peer(row: $0) }
        }
    }

    public func peers(named name: String) async throws -> [NamedPeer] {
        try await read { database in
            // '.' follows '-': the names that begin with the name and a hyphen.
            try database.rows(
                "SELECT id, name, status, last_seen FROM peers WHERE name = ?1 OR (name >= ?1 || '-' AND name < ?1 || '.')", [name]
            ).compactMap { row in
                guard NamedPeer.isMade(row["name"], from: name), let status = PeerStatus(rawValue: row["status"]) else { return nil }
                return NamedPeer(id: row["id"], name: row["name"], status: status, lastSeen: Date(milliseconds: row["last_seen"]))
            }
        }
    }

    public func livingPeers(tokenId: String) async throws -> Int {
        try await read { database in
            try database.row("SELECT count(*) AS count FROM peers WHERE token_id = ? AND status <> 'OFFLINE'", [tokenId])?["count"] ?? 0
        }
    }

    public func availablePeers() async throws -> [Peer] {
        try await read { database in
            // A row that cannot be read keeps no other from being claimed.
            try database.rows("SELECT * FROM peers WHERE status = 'ONLINE' AND session_id IS NULL ORDER BY name, id")
                .compactMap { try? Peer(row: $0) }
        }
    }

    public func freeStrayPeers() async throws -> [String] {
        let strays = """
            session_id IS NOT NULL AND session_id NOT IN
                (SELECT id FROM sessions WHERE status IN ('PENDING', 'RUNNING') OR is_ending)
            """
        return try await write { database in
            let ids = try database.rows("SELECT id FROM peers WHERE \(strays) ORDER BY id").map { $0["id"] as String }
            if !ids.isEmpty { try database.run("\(Self.freeing) WHERE \(strays)", []) }
            return ids
        }
    }

    public func touch(_ beats: [PeerBeat]) async throws {
        guard !beats.isEmpty else { return }
        try await write { database in
            for beat in beats {
                try database.run(
                    "UPDATE peers SET last_seen = ? WHERE id = ? AND registration = ? AND status <> 'OFFLINE'",
                    [beat.seen.milliseconds, beat.peerId, beat.registration])
            }
        }
    }

    public func claim(peerId: String, sessionId: String) async throws -> Bool {
        try await write { database in
            try database.run(
                "UPDATE peers SET session_id = ?, status = 'TRAINING' WHERE id = ? AND status = 'ONLINE' AND session_id IS NULL",
                [sessionId, peerId]) == 1
        }
    }

    public func free(peerId: String, sessionId: String) async throws {
        try await write { database in
            _ = try database.run("\(Self.freeing) WHERE id = ? AND session_id = ?", [peerId, sessionId])
        }
    }

    public func freePeers(ofSession sessionId: String) async throws {
        try await write { database in
            _ = try database.run("\(Self.freeing) WHERE session_id = ?", [sessionId])
        }
    }

    public func setOffline(peerId: String, registration: Int?, hasLeft: Bool) async throws {
        try await write { database in
            _ = try database.run(
                "UPDATE peers SET status = 'OFFLINE', offline_reason = ?3 WHERE id = ?1 AND (?2 IS NULL OR registration = ?2)",
                [peerId, registration, (hasLeft ? OfflineReason.left : .silent).rawValue])
        }
    }

    public func deletePeer(id: String) async throws {
        try await write { database in
            try database.run(
                "INSERT OR REPLACE INTO deleted_peers (id, registration) SELECT id, registration FROM peers WHERE id = ?", [id])
            try database.run("DELETE FROM peers WHERE id = ?", [id])
        }
    }

    public func deletePeers(unseenSince date: Date) async throws -> Int {
        let gone = "status = 'OFFLINE' AND session_id IS NULL AND last_seen < ?"
        return try await write { database in
            try database.run(
                "INSERT OR REPLACE INTO deleted_peers (id, registration) SELECT id, registration FROM peers WHERE \(gone)",
                [date.milliseconds])
            return try database.run("DELETE FROM peers WHERE \(gone)", [date.milliseconds])
        }
    }

    private static let freeing =
        "UPDATE peers SET session_id = NULL, status = CASE status WHEN 'TRAINING' THEN 'ONLINE' ELSE status END"
}

extension Peer {
    init(row: Row) throws {
        let id: String = row["id"]
        let capabilities: String = row["capabilities"]
        guard let status = PeerStatus(rawValue: row["status"]),
            let capabilities = try? CohortJSON.decode(PeerCapabilities.self, from: capabilities.utf8)
        else { throw CohortError(.internal, "the stored peer \(id) cannot be read; delete it, and it will register again") }
        self.init(
            id: id, name: row["name"], ownerId: row["owner_id"], tokenId: row["token_id"], capabilities: capabilities,
            serve: Pool(rawValue: row["serve"]) ?? .mine, status: status,
            offlineReason: (row["offline_reason"] as String?).flatMap(OfflineReason.init),
            sessionId: row["session_id"], registration: row["registration"], registeredAt: Date(milliseconds: row["registered_at"]),
            lastSeen: Date(milliseconds: row["last_seen"]))
    }
}
