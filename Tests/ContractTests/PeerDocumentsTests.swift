import CohortCore
import CohortSession
import CohortWire
import TestSupport
import Testing

@Suite
struct PeerDocumentsTests {
    @Test(arguments: DocumentStore.all)
    func `Registering again replaces the description, and counts up`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let first = try await documents.register(.sample(id: "p"))
            #expect(first == .sample(id: "p"))
            try await documents.setOffline(peerId: "p", registration: nil, hasLeft: false)

            var renamed = Peer.sample(id: "p", name: "workstation")
            renamed.capabilities.device = "cuda:0"
            renamed.tokenId = "another token"
            renamed.registeredAt = moment(60)
            renamed.lastSeen = moment(61)
            let second = try await documents.register(renamed)
            renamed.registration = 2
            #expect(second == renamed)
            #expect(try await documents.peer(id: "p") == renamed)
            #expect(try await documents.peer(id: "q") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A peer that comes back is still locked to its session`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            _ = try await documents.register(.sample(id: "p"))
            #expect(try await documents.claim(peerId: "p", sessionId: "s"))
            try await documents.setOffline(peerId: "p", registration: 1, hasLeft: false)
            let offline = try await documents.peer(id: "p")
            #expect(offline?.status == .offline && offline?.sessionId == "s")

            let back = try await documents.register(.sample(id: "p"))
            #expect(back.status == .training && back.sessionId == "s" && back.registration == 2)
            #expect(try await documents.peer(id: "p") == back)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A registration cannot bring a session with it`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            var peer = Peer.sample(id: "p")
            peer.sessionId = "another"
            peer.status = .offline
            let stored = try await documents.register(peer)
            #expect(stored.sessionId == nil && stored.status == .online)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Another user's peer id is refused`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let mine = try await documents.register(.sample(id: "p", owner: "ada"))
            await expectError(.conflict) { try await documents.register(.sample(id: "p", owner: "bob")) }
            #expect(try await documents.peer(id: "p") == mine)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Peers are listed by name, then id`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, name) in [("3", "b"), ("2", "a"), ("1", "b"), ("4", "a")] {
                _ = try await documents.register(.sample(id: id, name: name))
            }
            #expect(try await documents.peers().map(\.id) == ["2", "4", "1", "3"])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A beat counts for its own registration only, and never revives`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for id in ["fresh", "stale", "gone"] { _ = try await documents.register(.sample(id: id)) }
            _ = try await documents.register(.sample(id: "stale"))
            try await documents.setOffline(peerId: "gone", registration: 1, hasLeft: false)
            try await documents.touch(
                ["fresh", "stale", "gone", "unknown"].map { PeerBeat(peerId: $0, registration: 1, seen: moment(5)) })
            #expect(try await documents.peer(id: "fresh")?.lastSeen == moment(5))
            #expect(try await documents.peer(id: "stale")?.lastSeen == moment(0))
            #expect(try await documents.peer(id: "gone")?.lastSeen == moment(0))
            #expect(try await documents.peer(id: "gone")?.status == .offline)
            #expect(try await documents.peer(id: "unknown") == nil)
            try await documents.touch([])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Only the peer's present registration is set offline`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for _ in 0..<2 { _ = try await documents.register(.sample(id: "p")) }
            try await documents.setOffline(peerId: "p", registration: 1, hasLeft: false)
            #expect(try await documents.peer(id: "p")?.status == .online)
            try await documents.setOffline(peerId: "p", registration: 2, hasLeft: false)
            #expect(try await documents.peer(id: "p")?.status == .offline)
            try await documents.setOffline(peerId: "unknown", registration: nil, hasLeft: false)
            // A goodbye is distinguished from silence, until the peer comes back.
            #expect(try await documents.peer(id: "p")?.offlineReason == .silent)
            _ = try await documents.register(.sample(id: "p"))
            try await documents.setOffline(peerId: "p", registration: 3, hasLeft: true)
            #expect(try await documents.peer(id: "p")?.offlineReason == .left)
            #expect(try await documents.peers().first?.offlineReason == .left)
            _ = try await documents.register(.sample(id: "p"))
            #expect(try await documents.peer(id: "p")?.offlineReason == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A claim needs an online, free peer`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            _ = try await documents.register(.sample(id: "p"))
            #expect(try await documents.claim(peerId: "unknown", sessionId: "s") == false)
            #expect(try await documents.claim(peerId: "p", sessionId: "s"))
            let locked = try await documents.peer(id: "p")
            #expect(locked?.status == .training && locked?.sessionId == "s")
            #expect(try await documents.claim(peerId: "p", sessionId: "t") == false)
            #expect(try await documents.claim(peerId: "p", sessionId: "s") == false)

            try await documents.free(peerId: "p", sessionId: "t")
            #expect(try await documents.peer(id: "p") == locked, "only its own session frees a peer")
            try await documents.free(peerId: "p", sessionId: "s")
            try await documents.free(peerId: "p", sessionId: "s")
            let freed = try await documents.peer(id: "p")
            #expect(freed?.status == .online && freed?.sessionId == nil)

            try await documents.setOffline(peerId: "p", registration: nil, hasLeft: false)
            #expect(try await documents.claim(peerId: "p", sessionId: "s") == false)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Peers of sessions that are over or never were are freed, and no others`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, status, isEnding) in [
                ("pending", SessionStatus.pending, nil), ("running", .running, nil), ("completed", .completed, nil),
                ("ending", .failed, true as Bool?),
            ] {
                var session = Session.sample(id: id)
                session.status = status
                session.isEnding = isEnding
                try await documents.insert(session)
            }
            let all = ["pending", "running", "completed", "ending", "gone"]
            for session in all {
                _ = try await documents.register(.sample(id: "of-\(session)"))
                #expect(try await documents.claim(peerId: "of-\(session)", sessionId: session))
            }
            #expect(try await documents.peers(ofSession: "running").map(\.id) == ["of-running"])
            #expect(try await documents.availablePeers() == [])
            #expect(try await documents.freeStrayPeers() == ["of-completed", "of-gone"])
            #expect(try await documents.freeStrayPeers() == [])
            #expect(try await documents.availablePeers().map(\.id) == ["of-completed", "of-gone"])
            #expect(try await documents.peer(id: "of-gone")?.status == .online)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Freeing a session's peers leaves the offline ones offline and others' alone`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, session) in [("a", "s"), ("b", "s"), ("c", "t")] {
                _ = try await documents.register(.sample(id: id, name: id))
                #expect(try await documents.claim(peerId: id, sessionId: session))
            }
            try await documents.setOffline(peerId: "b", registration: nil, hasLeft: false)
            try await documents.freePeers(ofSession: "s")
            try await documents.freePeers(ofSession: "s")
            let peers = try await documents.peers()
            #expect(peers.map(\.sessionId) == [nil, nil, "t"])
            #expect(peers.map(\.status) == [.online, .offline, .training])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A hundred sessions claim ten peers at once: each peer goes to one`(_ store: DocumentStore) async throws {
        try await TemporaryFolder.with { place in
            // Two openings of the same store, as two servers on the same database.
            let servers = [try await store.open(place), try await store.open(place)]
            for peer in 0..<10 { _ = try await servers[0].part.register(.sample(id: "p\(peer)")) }
            let claims = try await withThrowingTaskGroup(of: [String: String].self) { group in
                for session in 0..<100 {
                    let documents = servers[session % 2].part
                    group.addTask {
                        var won: [String: String] = [:]
                        for peer in (0..<10).map({ "p\(($0 + session) % 10)" }) {
                            if try await documents.claim(peerId: peer, sessionId: "s\(session)") { won[peer] = "s\(session)" }
                        }
                        return won
                    }
                }
                return try await group.reduce(into: []) { $0 += $1.map { $0 } }
            }
            #expect(claims.count == 10)
            let winners = Dictionary(claims.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
            #expect(winners.count == 10)
            for peer in try await servers[1].part.peers() {
                #expect(peer.sessionId == winners[peer.id] && peer.status == .training)
            }
            for server in servers { try await server.close() }
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A deleted peer is gone, and when it comes back a beat of its former life is refused`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            _ = try await documents.register(.sample(id: "p"))
            #expect(try await documents.claim(peerId: "p", sessionId: "s"))
            try await documents.deletePeer(id: "p")
            try await documents.deletePeer(id: "p")
            #expect(try await documents.peers() == [])

            let back = try await documents.register(.sample(id: "p"))
            #expect(back.registration > 1 && back.sessionId == nil && back.status == .online)
            try await documents.touch([PeerBeat(peerId: "p", registration: 1, seen: moment(5))])
            #expect(try await documents.peer(id: "p")?.lastSeen == moment(0))
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Those who share a name, with numbers behind it too, are found by it`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let names = ["lab", "lab-2", "lab-10", "lab-", "lab-x", "lab-2-3", "lab2", "Lab", "la", "lab.", "lab-1234567890", "lab-2"]
            for (number, name) in names.enumerated() { _ = try await documents.register(.sample(id: "p\(number)", name: name)) }
            try await documents.setOffline(peerId: "p1", registration: nil, hasLeft: true)
            let found = try await documents.peers(named: "lab").sorted { ($0.name, $0.id) < ($1.name, $1.id) }
            #expect(found.map(\.id) == ["p0", "p2", "p1", "p11"])
            #expect(found.map(\.status) == [.online, .online, .offline, .online])
            #expect(found.allSatisfy { $0.lastSeen == moment() })
            #expect(try await documents.peers(named: "unknown").isEmpty)
            _ = try await documents.register(.sample(id: "q", name: "a'%_\"$"))
            #expect(try await documents.peers(named: "a'%_\"$").map(\.id) == ["q"])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `The machines of a join token that are not offline are counted`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for id in ["a", "b", "c"] { _ = try await documents.register(.sample(id: id)) }
            var other = Peer.sample(id: "d")
            other.tokenId = "another"
            _ = try await documents.register(other)
            #expect(try await documents.livingPeers(tokenId: "token") == 3)
            try await documents.setOffline(peerId: "b", registration: nil, hasLeft: false)
            #expect(try await documents.claim(peerId: "c", sessionId: "s"))
            #expect(try await documents.livingPeers(tokenId: "token") == 2)
            #expect(try await documents.livingPeers(tokenId: "another") == 1)
            #expect(try await documents.livingPeers(tokenId: "unknown") == 0)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Peers that are long gone are deleted, and no others`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, seen) in [("old", -10.0), ("older", -20), ("online", -30), ("locked", -30), ("recent", 0)] {
                var peer = Peer.sample(id: id)
                peer.lastSeen = moment(seen)
                _ = try await documents.register(peer)
            }
            #expect(try await documents.claim(peerId: "locked", sessionId: "s"))
            for id in ["old", "older", "locked", "recent"] {
                try await documents.setOffline(peerId: id, registration: nil, hasLeft: false)
            }
            #expect(try await documents.deletePeers(unseenSince: moment(-5)) == 2)
            #expect(try await documents.deletePeers(unseenSince: moment(-5)) == 0)
            #expect(Set(try await documents.peers().map(\.id)) == ["online", "locked", "recent"])
            #expect(try await documents.register(.sample(id: "old")).registration > 1, "it counts on from its last registration")
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A person sees the own peers and those that serve everyone; all are counted by status`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, owner, serve) in [("a", "ada", Pool.mine), ("b", "ada", .everyone), ("c", "bob", .mine), ("d", "bob", .everyone)] {
                var peer = Peer.sample(id: id, owner: owner)
                peer.serve = serve
                _ = try await documents.register(peer)
            }
            #expect(try await documents.peers(visibleTo: "ada").map(\.id) == ["a", "b", "d"])
            #expect(try await documents.peers(visibleTo: "eve").map(\.id) == ["b", "d"])
            #expect(try await documents.peerCounts() == [.online: 4])
            #expect(try await documents.claim(peerId: "a", sessionId: "s"))
            try await documents.setOffline(peerId: "b", registration: nil, hasLeft: false)
            #expect(try await documents.peerCounts() == [.online: 2, .training: 1, .offline: 1])
        }
    }
}
