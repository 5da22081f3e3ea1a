/// Who may train with whom. The one place that says so: at a session's start and in mid-session alike.
public enum Pool: String, Codable, Sendable, CaseIterable {
    /// A peer serves its owner's sessions; a session takes its owner's peers.
    case mine
    /// A peer serves everyone's sessions; a session takes everyone's peers. Both must say so.
    case everyone
}

extension Peer {
    /// Whether a session of this owner and pool may take the peer, and so show it its data.
    public func mayServe(ownerId owner: String, pool: Pool) -> Bool {
        ownerId == owner || pool == .everyone && serve == .everyone
    }

    /// Whether a session with these settings may take it: its owner lets it, and it can train what is to be trained.
    public func canTrain(_ settings: SessionSettings, ownerId owner: String, isModule: Bool) -> Bool {
        mayServe(ownerId: owner, pool: settings.pool ?? .mine) && (!isModule || runsModules(of: owner))
    }

    /// Whether it runs the code of this person's modules.
    public func runsModules(of owner: String) -> Bool {
        capabilities.modules == .everyone || capabilities.modules == .mine && ownerId == owner
    }
}
