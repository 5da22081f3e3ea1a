/// The broker that a peer's messages go by, and how to reach it.
public struct BrokerAddress: Codable, Sendable {
    /// `http`: commands stream from, and events go to, this server. `amqp`: a RabbitMQ, with all that follows.
    public var kind: String
    /// With user and password.
    public var url: String?
    /// The queue of this peer's commands, to be consumed with a prefetch of 1 and acknowledged on acceptance.
    public var commandQueue: String?
    /// Where events are published to, by the session's queue, `coordinator.SESSION.events`, as the routing key.
    public var eventExchange: String?
    /// 64 hexadecimal digits: their ASCII bytes are the key of the HMAC-SHA-256 over an event's body that its header
    /// `cohort-signature` holds, in hexadecimal.
    public var key: String?
    public init(
        kind: String, url: String? = nil, commandQueue: String? = nil, eventExchange: String? = nil, key: String? = nil
    ) {
        self.kind = kind
        self.url = url
        self.commandQueue = commandQueue
        self.eventExchange = eventExchange
        self.key = key
    }
}
