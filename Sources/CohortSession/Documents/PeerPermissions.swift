public import CohortCore
import CohortWire

extension Peer {
    /// Returns whether a session of this owner and pool may use the peer, which then receives its data.
    public func mayServe(ownerId owner: String, pool: Pool) -> Bool {
        ownerId == owner || pool == .everyone && serve == .everyone
    }

    /// Returns whether a session with these settings may use the peer: its owner permits it, and it can train the model.
    public func canTrain(_ settings: SessionSettings, ownerId owner: String, isModule: Bool) -> Bool {
        mayServe(ownerId: owner, pool: settings.pool ?? .mine) && (!isModule || runsModules(of: owner)) && readsTables
            && capabilities.optimizers?.contains(settings.optimizer.name.rawValue) ?? true
    }

    /// Returns whether it reads packed rows; peers of older versions read CSVs.
    public var readsTables: Bool { !capabilities.encodings.isEmpty }

    /// Returns whether it runs this user's modules.
    public func runsModules(of owner: String) -> Bool {
        capabilities.modules == .everyone || capabilities.modules == .mine && ownerId == owner
    }
}
