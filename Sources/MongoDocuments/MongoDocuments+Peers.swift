import CohortCore
public import CohortSession
public import FoundationEssentials

extension MongoDocuments {
    /// The registration of a deleted peer: one that comes back continues from it, so that a late beat of an earlier registration is still refused.
    private struct Deleted: Decodable { var registration: Int }

    private static let atOnce = 1_000

    public func register(_ peer: Peer) async throws -> Peer {
        // Each further turn follows a change of the peer by another process.
        for _ in 0..<100 {
            let earlier = try await self.peer(id: peer.id)
            if let earlier, earlier.ownerId != peer.ownerId {
                throw CohortError(
                    .conflict, "the peer id \(peer.id) belongs to another user: start the peer with a different data folder")
            }
            var stored = peer
            stored.sessionId = earlier?.sessionId
            stored.status = stored.sessionId == nil ? .online : .training
            if let earlier {
                stored.registration = earlier.registration + 1
                let filter: MongoJSON =
                    "{\"_id\":\(peer.id),\"registration\":\(earlier.registration),\"session_id\":\(earlier.sessionId)}"
                guard try await update(in: "peers", where: filter, change: try .document(stored.id, stored)) == 1 else { continue }
            } else {
                let deleted = try await one(Deleted.self, in: "deleted_peers", where: "{\"_id\":\(peer.id)}")
                stored.registration = deleted.map { $0.registration + 1 } ?? peer.registration
                do {
                    try await insert(try .document(stored.id, stored), into: "peers")
                } catch let fault as MongoFault where fault.code == MongoFault.duplicate {
                    continue
                }
                if deleted != nil { try await delete("deleted_peers", "{\"_id\":\(peer.id)}") }
            }
            return stored
        }
        throw CohortError(.unavailable, "the peer \(peer.id) is being changed by others all the time: try again")
    }

    public func peer(id: String) async throws -> Peer? { try await one(Peer.self, in: "peers", where: "{\"_id\":\(id)}") }

    public func peers() async throws -> [Peer] { try await peers("{}") }

    public func peers(visibleTo ownerId: String) async throws -> [Peer] {
        try await peers("{\"$or\":[{\"owner_id\":\(ownerId)},{\"serve\":\(Pool.everyone.rawValue)}]}")
    }

    public func peerCounts() async throws -> [PeerStatus: Int] {
        var counts: [PeerStatus: Int] = [:]
        for status in PeerStatus.allCases {
            let count = try await count("{\"status\":\(status.rawValue)}")
            if count > 0 { counts[status] = count }
        }
        return counts
    }

    private func count(_ filter: MongoJSON) async throws -> Int {
        struct Counted: Decodable { var n: Int }
        return try decode(Counted.self, try await connection.read("{\"count\":\"peers\",\"query\":\(filter)}")).n
    }

    public func peers(ofSession sessionId: String) async throws -> [Peer] { try await peers("{\"session_id\":\(sessionId)}") }

    public func peers(named name: String) async throws -> [NamedPeer] {
        // '.' follows '-': the names that begin with the name and a hyphen. A document that cannot be read hides no other.
        try await connection.find(
            in: "peers", where: "{\"$or\":[{\"name\":\(name)},{\"name\":{\"$gte\":\(name + "-"),\"$lt\":\(name + ".")}}]}",
            options: "{\"projection\":{\"id\":1,\"name\":1,\"status\":1,\"last_seen\":1}}"
        ).compactMap { try? decode(NamedPeer.self, $0) }.filter { NamedPeer.isMade($0.name, from: name) }
    }

    public func livingPeers(tokenId: String) async throws -> Int {
        try await count("{\"token_id\":\(tokenId),\"status\":{\"$ne\":\"OFFLINE\"}}")
    }

    public func availablePeers() async throws -> [Peer] { try await peers("{\"status\":\"ONLINE\",\"session_id\":null}") }

    /// One that cannot be read keeps no other from being found.
    private func peers(_ filter: MongoJSON) async throws -> [Peer] {
        try await connection.find(in: "peers", where: filter, options: "{\"sort\":{\"name\":1,\"_id\":1}}").compactMap {
            try? decode(Peer.self, $0)
        }
    }

    public func freeStrayPeers() async throws -> [String] {
        struct Locked: Decodable {
            var id: String
            var sessionId: String
        }
        struct Named: Decodable { var id: String }
        // In this order: a session is stored before its first peer is claimed.
        let locked = try await connection.find(
            in: "peers", where: "{\"session_id\":{\"$gt\":\"\"}}", options: "{\"projection\":{\"id\":1,\"session_id\":1}}"
        )
        .map { try decode(Locked.self, $0) }
        let sessions = Array(Set(locked.map(\.sessionId))).sorted()
        guard !sessions.isEmpty else { return [] }
        let alive = Set(
            try await connection.find(
                in: "sessions", where: "{\"_id\":{\"$in\":\(sessions)},\"_store.unfinished\":true}", options: "{\"projection\":{\"id\":1}}"
            ).map { try decode(Named.self, $0).id })
        let strays = locked.filter { !alive.contains($0.sessionId) }
        for stray in strays { try await free(peerId: stray.id, sessionId: stray.sessionId) }
        return strays.map(\.id).sorted()
    }

    public func touch(_ beats: [PeerBeat]) async throws {
        var rest = beats[...]
        while !rest.isEmpty {
            let some = rest.prefix(Self.atOnce)
            rest = rest.dropFirst(some.count)
            let updates = try some.map { beat -> MongoJSON in
                """
                {"q":{"_id":\(beat.peerId),"registration":\(beat.registration),"status":{"$ne":"OFFLINE"}},
                 "u":{"$set":{"last_seen":\(try MongoJSON(beat.seen))}}}
                """
            }
            _ = try await write("{\"update\":\"peers\",\"updates\":\(updates),\"ordered\":false}")
        }
    }

    public func claim(peerId: String, sessionId: String) async throws -> Bool {
        try await update(
            in: "peers", where: "{\"_id\":\(peerId),\"status\":\"ONLINE\",\"session_id\":null}",
            change: "{\"$set\":{\"session_id\":\(sessionId),\"status\":\"TRAINING\"}}") == 1
    }

    public func free(peerId: String, sessionId: String) async throws {
        try await free("\"_id\":\(peerId),\"session_id\":\(sessionId)")
    }

    public func freePeers(ofSession sessionId: String) async throws { try await free("\"session_id\":\(sessionId)") }

    /// Frees peers in two steps: a peer that the second finds still locked to the session is not training.
    private func free(_ filter: MongoJSON) async throws {
        try await update(
            in: "peers", where: "{\(filter),\"status\":\"TRAINING\"}",
            change: "{\"$set\":{\"status\":\"ONLINE\"},\"$unset\":{\"session_id\":\"\"}}",
            many: true)
        try await update(in: "peers", where: "{\(filter)}", change: "{\"$unset\":{\"session_id\":\"\"}}", many: true)
    }

    public func setOffline(peerId: String, registration: Int?, hasLeft: Bool) async throws {
        let filter: MongoJSON =
            if let registration { "{\"_id\":\(peerId),\"registration\":\(registration)}" } else { "{\"_id\":\(peerId)}" }
        try await update(
            in: "peers", where: filter,
            change: "{\"$set\":{\"status\":\"OFFLINE\",\"offline_reason\":\((hasLeft ? OfflineReason.left : .silent).rawValue)}}")
    }

    public func deletePeers(unseenSince date: Date) async throws -> Int {
        struct Named: Decodable { var id: String }
        let filter: MongoJSON = "{\"status\":\"OFFLINE\",\"session_id\":null,\"last_seen\":{\"$lt\":\(try MongoJSON(date))}}"
        let gone = try await connection.find(in: "peers", where: filter, options: "{\"projection\":{\"id\":1}}").map {
            try decode(Named.self, $0).id
        }
        for id in gone { try await deletePeer(id: id) }
        return gone.count
    }

    public func deletePeer(id: String) async throws {
        guard let peer = try await one(Deleted.self, in: "peers", where: "{\"_id\":\(id)}", fields: "{\"registration\":1}") else { return }
        // Its number first: it is not forgotten, whatever happens between.
        _ = try await write(
            """
            {"update":"deleted_peers","updates":[{"q":{"_id":\(id)},"u":{"$max":{"registration":\(peer.registration)}},"upsert":true}]}
            """)
        try await delete("peers", "{\"_id\":\(id)}")
    }
}
