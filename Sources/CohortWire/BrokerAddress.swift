/// The broker that a peer's messages go by, and how to reach it.
public struct BrokerAddress: Codable, Sendable {
    /// The transport of messages. Raw, because a newer server may name one that this version does not know.
    public struct Kind: RawRepresentable, Codable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// Commands stream from, and events go to, the server.
        public static let http = Kind(rawValue: "http")
        /// A RabbitMQ, at ``BrokerAddress/url``.
        public static let amqp = Kind(rawValue: "amqp")
    }

    public var kind: Kind
    /// The URL, with user and password.
    public var url: String?
    /// The queue of this peer's commands, to be consumed with a prefetch of 1 and acknowledged on acceptance.
    public var commandQueue: String?
    /// The exchange for events; the routing key is the session's queue, `coordinator.SESSION.events`.
    public var eventExchange: String?
    /// 64 hexadecimal digits: their ASCII bytes are the key of the HMAC-SHA-256 over an event's body that its header
    /// `cohort-signature` holds, in hexadecimal.
    public var key: String?
    public init(
        kind: Kind, url: String? = nil, commandQueue: String? = nil, eventExchange: String? = nil, key: String? = nil
    ) {
        self.kind = kind
        self.url = url
        self.commandQueue = commandQueue
        self.eventExchange = eventExchange
        self.key = key
    }
}
