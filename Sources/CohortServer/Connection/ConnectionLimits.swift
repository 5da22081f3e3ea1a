public import NIOCore

/// What a connection may take: without an end a few slow ones hold a server's memory and descriptors for ever.
public struct ConnectionLimits: Sendable {
    /// From the first byte of a request to the end of its headers.
    public var head: TimeAmount
    /// Without a request: a new connection, and one that was used before.
    public var silence: TimeAmount
    public var idle: TimeAmount
    /// In this time at least ``bodyBytes`` of a body must come, while the server waits for them.
    public var body: TimeAmount
    public var bodyBytes: Int
    /// How long an answer may wait for the other end to take any of it.
    public var stalled: TimeAmount
    /// How long the other end may go on sending a body that nobody wants, from the end of its request's answer on.
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

    /// How often a connection is looked at.
    var tick: TimeAmount { max(.milliseconds(20), min(head, silence, idle, body, stalled) / 4) }
}

extension TimeAmount {
    fileprivate static func / (amount: TimeAmount, divisor: Int64) -> TimeAmount { .nanoseconds(amount.nanoseconds / divisor) }
}
