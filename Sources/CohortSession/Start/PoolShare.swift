public import CohortCore

/// The share of other users' machines that one account may hold. Machines of the account itself never count.
public struct PoolShare: Sendable {
    /// The share of the shared machines that are online, 0 to 1; rounded up.
    private let share: Double
    private let documents: any Documents

    public init(_ share: Double, documents: any Documents) {
        self.share = share
        self.documents = documents
    }

    /// Returns the number of other users' machines that the account's sessions may still lock.
    public func left(ownerId: String, pool: Pool) async throws -> Int {
        guard pool == .everyone else { return 0 }
        guard share < 1 else { return .max }
        let shared = try await shared(ownerId)
        let owners = try await owners(of: shared)
        let held = shared.count { peer in peer.sessionId.map { owners[$0] == ownerId } ?? false }
        return max(0, most(of: shared.count) - held)
    }

    /// A sentence for those who ask for more; nil where the share is the whole pool.
    public func words(ownerId: String) async throws -> String? {
        guard share < 1 else { return nil }
        let count = try await shared(ownerId).count
        guard count > 0 else { return nil }
        return
            "one account may use \(most(of: count)) of the \(count) machines that others share at a time (COHORT_POOL_SHARE)"
    }

    private func most(of count: Int) -> Int { Int((share * Double(count)).rounded(.up)) }

    private func shared(_ ownerId: String) async throws -> [Peer] {
        try await documents.peers(visibleTo: ownerId).filter { $0.ownerId != ownerId && $0.serve == .everyone && $0.status != .offline }
    }

    private func owners(of peers: [Peer]) async throws -> [String: String] {
        var owners: [String: String] = [:]
        for id in Set(peers.compactMap(\.sessionId)) { owners[id] = try await documents.session(id: id)?.ownerId }
        return owners
    }
}
