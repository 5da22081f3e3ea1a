public import NIOCore

/// The time limits of a connection: without them, a few slow clients hold a server's memory and descriptors forever.
public struct ConnectionLimits: Sendable {
    /// The time from the first byte of a request to the end of its headers.
    public var head: TimeAmount
    /// Without a request: a new connection, and one that was used before.
    public var silence: TimeAmount
    public var idle: TimeAmount
    /// The time in which at least ``bodyBytes`` of a body must arrive while the server waits for them.
    public var body: TimeAmount
    public var bodyBytes: Int
    /// The longest time for which a client may read nothing of an answer.
    public var stalled: TimeAmount
    /// The longest time for which a client may send a body that is not read, after the answer to its request.
    public var unwanted: TimeAmount
    /// Bytes of a request's path and query.
    public var target: Int

    public init(
        head: TimeAmount = .seconds(20), silence: TimeAmount = .seconds(30), idle: TimeAmount = .seconds(90),
        body: TimeAmount = .seconds(30),
        bodyBytes: Int = 1_024, stalled: TimeAmount = .seconds(120), unwanted: TimeAmount = .seconds(10), target: Int = 16 << 10
    ) {
        self.head = head
        self.silence = silence
        self.idle = idle
        self.body = body
        self.bodyBytes = bodyBytes
        self.stalled = stalled
        self.unwanted = unwanted
        self.target = target
    }

    /// The interval between two checks of a connection.
    var tick: TimeAmount { max(.milliseconds(20), min(head, silence, idle, body, stalled) / 4) }
}

extension TimeAmount {
    fileprivate static func / (amount: TimeAmount, divisor: Int64) -> TimeAmount { .nanoseconds(amount.nanoseconds / divisor) }
}
