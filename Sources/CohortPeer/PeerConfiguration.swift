public import CohortAPI
public import CohortClient
public import CohortCore
public import CohortWire
public import Logging

/// The configuration of a peer.
public struct PeerConfiguration: Sendable {
    public var server: ServerURL
    /// The join token.
    public var token: String
    /// The name in the pool.
    public var name: String
    /// Identity and rows; one peer a folder.
    public var dataDirectory: String
    /// Threads to train with.
    public var threads: Int
    /// The most that rows take on disk. What a running session needs is kept even when it is larger.
    public var cacheLimitBytes: Int
    /// Rows stay on disk when their session is over.
    public var keepsData = false
    /// The users whose sessions it trains.
    public var serve: Pool
    /// The users whose modules, which are code, it runs, if its engine can.
    public var allowsModules = Pool.mine
    /// The most of its cores' time that training takes, in percent, 1 to 100.
    public var maxLoad: Int
    /// The program's version, for the list of peers.
    public var version: String
    /// Told what the peer does, from whichever thread; must not block.
    public var report: @Sendable (PeerActivity) -> Void = { _ in }
    /// Called on the training thread at each ``CheckPoint``, which it may hold by blocking; nil outside tests.
    public var checkPoint: (@Sendable (CheckPoint) -> Void)?

    /// - Parameters:
    ///   - name: nil for the host's name.
    ///   - threads: nil for one a core.
    /// What messages go by: `http` or `amqp`; nil: as the server says.
    public var transport: BrokerAddress.Kind?

    public init(
        server: ServerURL, token: String, name: String? = nil, dataDirectory: String, threads: Int? = nil,
        cacheLimitBytes: Int = 10 << 30, serve: Pool = .mine, maxLoad: Int = 100, transport: BrokerAddress.Kind? = nil,
        version: String,
        checkPoint: (@Sendable (CheckPoint) -> Void)? = nil
    ) {
        self.server = server
        self.token = token
        self.name = name ?? Machine.hostName
        self.dataDirectory = dataDirectory
        self.threads = threads ?? Machine.cores
        self.cacheLimitBytes = cacheLimitBytes
        self.serve = serve
        self.maxLoad = maxLoad
        self.transport = transport
        self.version = version
        self.checkPoint = checkPoint
    }
}

/// Makes the wire of one registration. The client carries the peer's credential.
/// - Throws: ``CohortError`` `invalid` for a broker that this version does not know.
public typealias PeerTransportFactory = @Sendable (CohortClient, API.Registered, Logger) throws -> any PeerTransport
