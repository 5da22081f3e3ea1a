public import CohortCore
public import CohortSession
public import CohortSystem
public import CohortWire
public import Logging

/// The settings of the HTTP server.
public struct ServerConfiguration: Sendable {
    /// Address to listen on.
    public var host: String
    /// 0: a free one.
    public var port: Int
    /// The folder for uploads and for the key of the tokens; created if it does not exist.
    public var dataDirectory: String
    /// Bytes of the largest CSV.
    public var uploadLimit: Int
    /// Bytes of the largest object that a peer may PUT.
    public var objectLimit: Int
    /// The lifetime of a sign-in, in seconds.
    public var tokenLifetime: Int
    /// Seconds between a peer's presence beats.
    public var heartbeatInterval: Double
    /// Seconds of silence after which a peer is suspected.
    public var suspectAfter: Double
    /// Seconds of silence after which a peer is lost.
    public var deadAfter: Double
    /// The strategies there are.
    public var strategies: [any Strategy]
    /// Key of the tokens, at least 32 bytes; nil: `jwt.key` in the data directory, made when it is not there.
    public var jwtSecret: String?
    /// bcrypt's cost, 4 to 31; each step doubles the time of a sign-in.
    public var bcryptCost: Int
    /// The broker that peers connect to.
    public var broker: BrokerAddress
    /// PEM files of the certificate chain and its key; nil: no TLS.
    public var tls: (certificate: String, key: String)?
    /// The limits of a connection.
    public var limits = ConnectionLimits()
    /// The origin whose pages may use the API in a browser, such as `https://lab.example.org`, `*` for all; nil: nowhere else.
    public var corsOrigin: String?
    /// The first wait after too many wrong passwords.
    public var signInDelay = Duration.seconds(1)
    /// Networks of proxies whose `X-Forwarded-For` is believed; of all others it is ignored.
    public var trustedProxies: [AddressNetwork] = []
    /// Who may make an account.
    public var signUp = SignUpRule.open
    /// The path that a proxy has put before all others, such as `/cohort`; empty at the root.
    public var basePath = ""
    /// Sends HSTS: only for a certificate that browsers trust.
    public var sendsHSTS = false
    /// Machines that one join token may have online at a time.
    public var machinesOfToken = 1_000
    /// New machines a minute by one join token, beyond a burst of twice those that it may have.
    public var registrationsPerMinute = 120
    /// Requests by one credential. A session of short epochs sends some fifty a second.
    public var requestLimit = (perMinute: 12_000, burst: 2_000)
    /// The share of the peers that serve everyone which sessions of one account may hold at a time, 0 to 1; an account's own peers do not count.
    public var poolShare = 0.5
    /// The archive and address for `/join`.
    public var join = JoinOffer()
    /// Other servers use the same documents.
    public var isShared = false

    public init(
        host: String = "127.0.0.1", port: Int = 8080, dataDirectory: String, uploadLimit: Int = 1 << 30,
        objectLimit: Int = (1 << 30) + (1 << 20),
        tokenLifetime: Int = 7 * 24 * 3600, heartbeatInterval: Double = 5, suspectAfter: Double = 15, deadAfter: Double = 30,
        strategies: [any Strategy], jwtSecret: String? = nil, bcryptCost: Int = 12,
        broker: BrokerAddress = BrokerAddress(kind: .http)
    ) {
        self.host = host
        self.port = port
        self.dataDirectory = dataDirectory
        self.uploadLimit = uploadLimit
        self.objectLimit = objectLimit
        self.tokenLifetime = tokenLifetime
        self.heartbeatInterval = heartbeatInterval
        self.suspectAfter = suspectAfter
        self.deadAfter = deadAfter
        self.strategies = strategies
        self.jwtSecret = jwtSecret
        self.bcryptCost = bcryptCost
        self.broker = broker
    }
}

/// The parts that the server depends on.
public struct ServerParts: Sendable {
    public var documents: any Documents
    public var objects: any ObjectStore
    /// The same store when its links lead to this server: it is served at `/objects`.
    public var servedObjects: (any ServedObjectStore)?
    public var transport: any CoordinatorTransport
    /// The gateway for peers that connect by HTTP.
    public var gateway: any PeerGateway
    public var feed: any SessionFeed
    public var runner: any SessionRunner
    public var time: any TimeSource
    public var logger: Logger

    public init(
        documents: any Documents, objects: any ObjectStore, servedObjects: (any ServedObjectStore)?, transport: any CoordinatorTransport,
        gateway: any PeerGateway,
        feed: any SessionFeed, runner: any SessionRunner,
        time: any TimeSource = SystemTime(), logger: Logger
    ) {
        self.time = time
        self.documents = documents
        self.objects = objects
        self.servedObjects = servedObjects
        self.transport = transport
        self.gateway = gateway
        self.feed = feed
        self.runner = runner
        self.logger = logger
    }
}
