import CohortCore
public import CohortSession
import CohortWire
import FoundationEssentials
import Synchronization

extension MemoryDocuments {
    public func users(after id: String?, limit: Int) async throws -> [User] { page(state.withLock { $0.users }, after: id, limit) }

    public func peers(after id: String?, limit: Int) async throws -> [Peer] {
        page(state.withLock { Array($0.peers.values) }, after: id, limit)
    }

    public func deletedPeers(after id: String?, limit: Int) async throws -> [DeletedPeer] {
        let all = state.withLock { $0.deleted.sorted { $0.key < $1.key } }
        return Array(all.filter { $0.key > id ?? "" }.prefix(max(0, limit)).map { DeletedPeer(id: $0.key, registration: $0.value) })
    }

    public func sessions(after id: String?, limit: Int) async throws -> [Session] {
        page(state.withLock { $0.sessions }, after: id, limit)
    }

    private func page<Value: Identifiable>(_ all: [Value], after id: String?, _ limit: Int) -> [Value] where Value.ID == String {
        Array(all.filter { $0.id > id ?? "" }.sorted { $0.id < $1.id }.prefix(max(0, limit)))
    }

    public func restore(_ peer: Peer) async throws { state.withLock { $0.peers[peer.id] = peer } }

    public func restore(_ peer: DeletedPeer) async throws { state.withLock { $0.deleted[peer.id] = peer.registration } }
}
