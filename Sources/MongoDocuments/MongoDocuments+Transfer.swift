import CohortCore
public import CohortSession

extension MongoDocuments {
    public func users(after id: String?, limit: Int) async throws -> [User] { try await page(of: "users", after: id, limit) }

    public func peers(after id: String?, limit: Int) async throws -> [Peer] { try await page(of: "peers", after: id, limit) }

    public func deletedPeers(after id: String?, limit: Int) async throws -> [DeletedPeer] {
        struct Stored: Decodable {
            var id: String
            var registration: Int

            enum CodingKeys: String, CodingKey {
                case id = "_id"
                case registration
            }
        }
        let stored: [Stored] = try await page(of: "deleted_peers", after: id, limit)
        return stored.map { DeletedPeer(id: $0.id, registration: $0.registration) }
    }

    public func sessions(after id: String?, limit: Int) async throws -> [Session] { try await page(of: "sessions", after: id, limit) }

    private func page<Value: Decodable>(of collection: String, after id: String?, _ limit: Int) async throws -> [Value] {
        // To MongoDB, no limit is a limit of 0. Every id is more than the empty one.
        guard limit > 0 else { return [] }
        return try await connection.find(
            in: collection, where: "{\"_id\":{\"$gt\":\(id ?? "")}}", options: "{\"sort\":{\"_id\":1},\"limit\":\(limit)}"
        ).map { try decode(Value.self, $0) }
    }

    public func restore(_ peer: Peer) async throws { try await put(try .document(peer.id, peer), id: peer.id, into: "peers") }

    public func restore(_ peer: DeletedPeer) async throws {
        try await put("{\"_id\":\(peer.id),\"registration\":\(peer.registration)}", id: peer.id, into: "deleted_peers")
    }

    private func put(_ document: MongoJSON, id: String, into collection: String) async throws {
        let written = try await write("{\"update\":\(collection),\"updates\":[{\"q\":{\"_id\":\(id)},\"u\":\(document),\"upsert\":true}]}")
        if let failure = written.writeErrors?.first {
            throw CohortError(.unavailable, "\(connection.place) failed: \((failure.errmsg ?? "").printable(max: 300)) (\(failure.code))")
        }
    }
}
