import CohortCore
import CohortSession
import Testing

@Suite
struct TransferDocumentsTests {
    @Test(arguments: DocumentStore.all)
    func `Pages are in the order of ids, whole, and end`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for id in ["c", "a", "b", "e", "d"] {
                try await documents.insert(User.sample(id: id, email: "\(id)@example.org"))
                try await documents.insert(Session.sample(id: id))
                _ = try await documents.register(Peer.sample(id: id))
            }
            #expect(try await documents.users(after: nil, limit: 2).map(\.id) == ["a", "b"])
            #expect(try await documents.users(after: "b", limit: 2).map(\.id) == ["c", "d"])
            #expect(try await documents.users(after: "d", limit: 2).map(\.id) == ["e"])
            #expect(try await documents.users(after: "e", limit: 2).isEmpty)
            #expect(try await documents.users(after: nil, limit: 0).isEmpty)
            #expect(try await documents.sessions(after: "a", limit: 3).map(\.id) == ["b", "c", "d"])
            #expect(
                try await documents.sessions(after: nil, limit: 9)
                    == ["a", "b", "c", "d", "e"].asyncMap { try #require(try await documents.session(id: $0)) })
            #expect(try await documents.peers(after: "c", limit: 9).map(\.id) == ["d", "e"])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A restored peer keeps its lock, its registration and its dates`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            var peer = Peer.sample(id: "p")
            peer.status = .training
            peer.sessionId = "s"
            peer.registration = 7
            peer.serve = .everyone
            for _ in 0..<2 { try await documents.restore(peer) }
            #expect(try await documents.peer(id: "p") == peer)
            #expect(try await documents.peers(ofSession: "s") == [peer])
            // It goes on from there.
            #expect(try await documents.register(Peer.sample(id: "p")).registration == 8)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A peer that was deleted is remembered by its last registration, and restored so`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for _ in 0..<3 { _ = try await documents.register(Peer.sample(id: "a")) }
            try await documents.deletePeer(id: "a")
            #expect(try await documents.deletedPeers(after: nil, limit: 9) == [DeletedPeer(id: "a", registration: 3)])
            for _ in 0..<2 { try await documents.restore(DeletedPeer(id: "b", registration: 5)) }
            #expect(try await documents.deletedPeers(after: "a", limit: 9) == [DeletedPeer(id: "b", registration: 5)])
            #expect(try await documents.register(Peer.sample(id: "b")).registration == 6)
        }
    }
}

extension [String] {
    fileprivate func asyncMap<Value>(_ body: (String) async throws -> Value) async throws -> [Value] {
        var values: [Value] = []
        for element in self { values.append(try await body(element)) }
        return values
    }
}
