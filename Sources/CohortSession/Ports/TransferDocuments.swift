/// Bulk access for export and import. Pages are in the order of ids, those after `id`; an unreadable document is an error, so that nothing
/// is omitted silently.
public protocol TransferDocuments: Sendable {
    /// - Throws: ``CohortError`` `internal` for one that cannot be read, as the other pages do.
    func users(after id: String?, limit: Int) async throws -> [User]
    func peers(after id: String?, limit: Int) async throws -> [Peer]
    func deletedPeers(after id: String?, limit: Int) async throws -> [DeletedPeer]
    func sessions(after id: String?, limit: Int) async throws -> [Session]
    /// Stores the peer as it is, its registration and its lock included; one of the same id is replaced.
    func restore(_ peer: Peer) async throws
    func restore(_ peer: DeletedPeer) async throws
}

/// A deleted peer's last registration: if the peer comes back, it continues from there, so that a late beat of an earlier registration is
/// still refused.
public struct DeletedPeer: Codable, Hashable, Sendable, Identifiable {
    public var id: String
    public var registration: Int

    public init(id: String, registration: Int) {
        self.id = id
        self.registration = registration
    }
}
