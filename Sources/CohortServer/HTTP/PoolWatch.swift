import AsyncAlgorithms
import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import NIOCore

/// The peers that a user sees: all of them at first, then those that change.
struct PoolWatch: Sendable {
    let parts: ServerParts
    let userId: String
    /// Peers register at other servers as well.
    let isShared: Bool

    /// Seconds between two looks at the peers, at least; a large pool is looked at less often, so that a viewer costs at most a tenth of a thread.
    private static let pause = 0.2
    /// Seconds after which the peers are looked at though nothing was heard: a signal of another server may be lost.
    private static let interval = 15.0

    func run(into sink: AsyncStream<ByteBuffer>.Continuation) async throws {
        // Before the first look: nothing falls between the two.
        let changes = await parts.feed.poolChanges()
        var known: [String: Peer] = [:]
        try await look(&known, isFirst: true, into: sink)
        if isShared {
            for await _ in merge(changes, ticks) { try await look(&known, isFirst: false, into: sink) }
        } else {
            for await _ in changes { try await look(&known, isFirst: false, into: sink) }
        }
    }

    private var ticks: AsyncStream<Void> {
        AsyncStream { try? await parts.time.sleep(seconds: Self.interval) }  // Cancelled: so is the watch.
    }

    private func look(_ known: inout [String: Peer], isFirst: Bool, into sink: AsyncStream<ByteBuffer>.Continuation) async throws {
        let began = parts.time.monotonic
        var peers: [String: Peer] = [:]
        // When a peer was last seen changes with every beat, and matters once it is gone.
        for var peer in try await parts.documents.peers(visibleTo: userId) {
            if peer.status != .offline { peer.lastSeen = peer.registeredAt }
            peers[peer.id] = peer
        }
        let changed = peers.values.filter { known[$0.id] != $0 }.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        let gone = known.keys.filter { peers[$0] == nil }.sorted()
        if isFirst || !changed.isEmpty || !gone.isEmpty {
            let change = API.PeersChange(
                all: isFirst ? true : nil, changed: changed.map { API.PeerView($0, mine: $0.ownerId == userId) },
                gone: gone.isEmpty ? nil : gone)
            sink.yield(StreamedEvent(id: nil, name: "peers", data: try CohortJSON.encode(change)).buffer)
            known = peers
        }
        try await parts.time.sleep(seconds: max(Self.pause, 10 * (parts.time.monotonic - began)))
    }
}
