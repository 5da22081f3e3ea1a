import CohortCore
import CohortSession
import CohortWire

/// Peers that the machine claims and frees.
extension SessionRun {
    func act(on effect: SessionActions.Effect, _ machine: inout SessionMachine) async throws -> SessionActions {
        switch effect {
        case .claim(let count): return try await claim(count, &machine)
        case .free(let peerId):
            try await documents.free(peerId: peerId, sessionId: id)
            await coordinator.feed.poolChanged()
            return SessionActions()
        }
    }

    /// Claims peers for the session, preferring those that return.
    private func claim(_ count: Int, _ machine: inout SessionMachine) async throws -> SessionActions {
        let session = machine.session
        let share = PoolShare(configuration.poolShare, documents: documents)
        var lent = try await share.left(ownerId: session.ownerId, pool: session.settings.pool ?? .mine)
        let candidates = try await documents.availablePeers().filter { peer in
            let place = machine.place(of: peer.id)
            guard
                peer.canTrain(
                    machine.session.settings, ownerId: machine.session.ownerId, isModule: machine.session.model?.module != nil)
            else { return false }
            return place?.isAlive != true && place?.state != .failed
        }.inClaimOrder(ownerId: session.ownerId) { machine.place(of: $0.id) != nil }
        var actions = SessionActions()
        var left = count
        for peer in candidates where left > 0 {
            let isLent = peer.ownerId != session.ownerId
            if isLent, lent <= 0 { continue }
            guard try await documents.claim(peerId: peer.id, sessionId: id) else { continue }
            left -= 1
            if isLent { lent -= 1 }
            actions += machine.apply(.joined(peer), now: clock.now())
        }
        if left < count { await coordinator.feed.poolChanged() }
        machine.advance(&actions, now: clock.now())
        return actions
    }
}
