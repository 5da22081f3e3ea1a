import CohortWire

extension Sequence<Peer> {
    /// Returns the peers in the order of claiming: preferred ones first, then those of the owner, then the fastest.
    public func inClaimOrder(ownerId: String, preferring isPreferred: (Peer) -> Bool) -> [Peer] {
        func rank(_ peer: Peer) -> Int { (isPreferred(peer) ? 0 : 2) + (peer.ownerId == ownerId ? 0 : 1) }
        return map { (rank: rank($0), peer: $0) }.sorted { a, b in
            (a.rank, b.peer.capabilities.samplesPerSecond, a.peer.id) < (b.rank, a.peer.capabilities.samplesPerSecond, b.peer.id)
        }.map(\.peer)
    }
}
