import CohortCore
public import CohortSession
import CohortWire
public import FoundationEssentials
import Synchronization

extension MemoryDocuments {
    public func register(_ peer: Peer) async throws -> Peer {
        try state.withLock { state in
            let earlier = state.peers[peer.id]
            if let earlier, earlier.ownerId != peer.ownerId {
                throw CohortError(.conflict, "the peer id \(peer.id) belongs to another user")
            }
            var stored = peer
            stored.sessionId = earlier?.sessionId
            stored.status = stored.sessionId == nil ? .online : .training
            stored.registration = (earlier?.registration ?? state.deleted[peer.id]).map { $0 + 1 } ?? peer.registration
            state.peers[peer.id] = stored
            state.deleted[peer.id] = nil
            return stored
        }
    }

    public func peer(id: String) async throws -> Peer? { state.withLock { $0.peers[id] } }

    public func peers() async throws -> [Peer] { peers { _ in true } }

    public func peers(visibleTo ownerId: String) async throws -> [Peer] { peers { $0.ownerId == ownerId || $0.serve == .everyone } }

    public func peerCounts() async throws -> [PeerStatus: Int] {
        Dictionary(grouping: peers { _ in true }, by: \.status).mapValues(\.count)
    }

    public func peers(ofSession sessionId: String) async throws -> [Peer] { peers { $0.sessionId == sessionId } }

    public func peers(named name: String) async throws -> [NamedPeer] {
        peers { NamedPeer.isMade($0.name, from: name) }.map {
            NamedPeer(id: $0.id, name: $0.name, status: $0.status, lastSeen: $0.lastSeen)
        }
    }

    public func livingPeers(tokenId: String) async throws -> Int { peers { $0.tokenId == tokenId && $0.status != .offline }.count }

    public func deletePeers(unseenSince date: Date) async throws -> Int {
        let gone = peers { $0.status == .offline && $0.sessionId == nil && $0.lastSeen < date }
        for peer in gone { try await deletePeer(id: peer.id) }
        return gone.count
    }

    public func availablePeers() async throws -> [Peer] { peers { $0.status == .online && $0.sessionId == nil } }

    private func peers(where condition: (Peer) -> Bool) -> [Peer] {
        state.withLock { $0.peers.values.filter(condition).sorted { ($0.name, $0.id) < ($1.name, $1.id) } }
    }

    public func freeStrayPeers() async throws -> [String] {
        state.withLock { state in
            let sessions = state.sessions.filter { !$0.status.isFinal || $0.isEnding == true }.map(\.id)
            let strays = state.peers.values.filter { $0.sessionId.map { !sessions.contains($0) } ?? false }.map(\.id).sorted()
            for id in strays { state.free(id) }
            return strays
        }
    }

    public func touch(_ beats: [PeerBeat]) async throws {
        state.withLock { state in
            for beat in beats {
                guard let peer = state.peers[beat.peerId], peer.registration == beat.registration, peer.status != .offline else { continue }
                state.peers[beat.peerId]?.lastSeen = beat.seen
            }
        }
    }

    public func claim(peerId: String, sessionId: String) async throws -> Bool {
        state.withLock { state in
            guard let peer = state.peers[peerId], peer.status == .online, peer.sessionId == nil else { return false }
            state.peers[peerId]?.sessionId = sessionId
            state.peers[peerId]?.status = .training
            return true
        }
    }

    public func free(peerId: String, sessionId: String) async throws {
        state.withLock { state in
            if state.peers[peerId]?.sessionId == sessionId { state.free(peerId) }
        }
    }

    public func freePeers(ofSession sessionId: String) async throws {
        state.withLock { state in
            for peer in state.peers.values where peer.sessionId == sessionId { state.free(peer.id) }
        }
    }

    public func setOffline(peerId: String, registration: Int?, hasLeft: Bool) async throws {
        state.withLock { state in
            guard let peer = state.peers[peerId], registration == nil || peer.registration == registration else { return }
            state.peers[peerId]?.status = .offline
            state.peers[peerId]?.offlineReason = hasLeft ? .left : .silent
        }
    }

    public func deletePeer(id: String) async throws {
        state.withLock { state in
            guard let peer = state.peers.removeValue(forKey: id) else { return }
            state.deleted[id] = peer.registration
        }
    }
}
