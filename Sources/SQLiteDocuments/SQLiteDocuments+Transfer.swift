import CohortCore
public import CohortSession
import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    public func users(after id: String?, limit: Int) async throws -> [User] {
        try await page("*", of: "users", after: id, limit: limit) { User(row: $0) }
    }

    public func peers(after id: String?, limit: Int) async throws -> [Peer] {
        try await page("*", of: "peers", after: id, limit: limit) { try Peer(row: $0) }
    }

    public func deletedPeers(after id: String?, limit: Int) async throws -> [DeletedPeer] {
        try await page("*", of: "deleted_peers", after: id, limit: limit) { DeletedPeer(id: $0["id"], registration: $0["registration"]) }
    }

    public func sessions(after id: String?, limit: Int) async throws -> [Session] {
        try await page(Self.stored, of: "sessions", after: id, limit: limit) { try Session(row: $0) }
    }

    private func page<Value: Sendable>(
        _ columns: String, of table: String, after id: String?, limit: Int, _ read: @Sendable (Row) throws -> Value
    ) async throws -> [Value] {
        try await self.read { database in
            // Every id is more than the empty one.
            try database.rows("SELECT \(columns) FROM \(table) WHERE id > ? ORDER BY id LIMIT ?", [id ?? "", max(0, limit)]).map(read)
        }
    }

    public func restore(_ peer: Peer) async throws {
        let capabilities = String(decoding: try CohortJSON.encode(peer.capabilities), as: UTF8.self)
        try await write { try Self.replace(peer, capabilities: capabilities, in: $0) }
    }

    public func restore(_ peer: DeletedPeer) async throws {
        try await write { database in
            _ = try database.run("INSERT OR REPLACE INTO deleted_peers (id, registration) VALUES (?, ?)", [peer.id, peer.registration])
        }
    }
}
