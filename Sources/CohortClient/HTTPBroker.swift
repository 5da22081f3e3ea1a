import AsyncHTTPClient
public import CohortCore
public import Logging
import NIOCore
import NIOHTTP1
import Synchronization

/// The embedded transport as a peer sees it: its commands come on one HTTP stream, its events go out by POST.
public struct HTTPBroker: Broker {
    private let client: CohortClient
    private let peerId: String
    private let registration: Int
    private let logger: Logger
    private let acceptance = Acceptance()

    /// - Parameter client: with the peer's join token.
    public init(client: CohortClient, peerId: String, registration: Int, logger: Logger) {
        self.client = client
        self.peerId = peerId
        self.registration = registration
        self.logger = logger
    }

    /// The server makes the peer's queue when it registers.
    public func declare(_ queue: QueueName) async throws {}

    /// The server removes the peer's queue.
    public func delete(_ queue: QueueName) async throws {}

    /// Id of the newest command that was acknowledged: the acknowledgement goes with the next events or the next beat, whichever is first.
    public var accepted: Int? { acceptance.newest }

    /// - Throws: `invalid`: a peer is sent commands, it sends none.
    public func send(_ command: Command, to peerId: String) async throws {
        throw CohortError(.invalid, "a peer publishes events, not commands")
    }

    /// Sends events of one session. A short absence of the server is waited out.
    /// - Throws: `unavailable` when the server stays away or nobody takes events now; `conflict` when this peer is fenced off: drop
    ///   the events.
    public func publish(_ messages: [[UInt8]], to queue: QueueName) async throws -> [CohortError?] {
        guard queue.rawValue.hasPrefix("coordinator.") else {
            throw CohortError(.invalid, "a peer publishes events, not commands: \(queue)")
        }
        var call = HTTPCall(method: .POST, path: ["peers", peerId, "events"])
        call.headers = ["Content-Type": "application/x-ndjson"]
        call.body = .bytes(ByteBuffer(bytes: messages.joined(separator: [UInt8(ascii: "\n")])))
        if let accepted { call.query = [("through", "\(accepted)")] }
        var backoff = Backoff(first: 0.1)
        for attempt in 1... {
            do {
                var refusals = [CohortError?](repeating: nil, count: messages.count)
                for refused in try await client.caller.fetch(call, as: API.EventsTaken.self).refused
                where refusals.indices.contains(refused.line) {
                    refusals[refused.line] = CohortError(CohortError.Code(rawValue: refused.code) ?? .conflict, refused.detail)
                }
                return refusals
            } catch let error as CohortError where error.code == .unavailable && attempt < 3 {
                try await Task.sleep(for: backoff.next())
            }
        }
        return []
    }

    /// The peer's commands. A stream that breaks is opened again, for as long as it takes, from the last acknowledged command on; only
    /// a refusal ends it.
    /// - Throws: while iterating: `unauthenticated` or `forbidden` when the join token is no longer good; `conflict` or `notFound`
    ///   when the registration is not: register again.
    public func consume(_ queue: QueueName) async throws -> AsyncThrowingStream<Delivery, any Error> {
        guard queue == .command(peerId: peerId) else {
            throw CohortError(.invalid, "peer \(peerId) consumes its own commands, not \(queue)")
        }
        let commands = CommandStream(
            client: client, peerId: peerId, registration: registration, acceptance: acceptance, logger: logger)
        return AsyncThrowingStream { try await commands.next() }
    }
}

/// Pulled by one consumer; nothing is buffered but what the connection holds.
private actor CommandStream {
    private let client: CohortClient
    private let peerId: String
    private let registration: Int
    private let logger: Logger
    private let acceptance: Acceptance
    private var source: EventSource?
    private var openedAt = ContinuousClock.now
    private var backoff = Backoff()
    private var delivered = 0
    private var isAway = false

    init(client: CohortClient, peerId: String, registration: Int, acceptance: Acceptance, logger: Logger) {
        self.client = client
        self.peerId = peerId
        self.registration = registration
        self.acceptance = acceptance
        self.logger = logger
    }

    func next() async throws -> Delivery? {
        while !Task.isCancelled {
            do {
                let source = try await connected()
                if let event = try await source.next() {
                    backoff.reset()
                    return delivery(of: event)
                }
                if Task.isCancelled { return nil }
                logger.debug("the server ended the command stream; opening it again")
            } catch let error as CohortError where [.unavailable, .internal, .tooLarge].contains(error.code) {
                if !isAway { logger.warning("the command stream is gone, opening it again until it is back: \(error)") }
                isAway = true
            } catch is CancellationError {
                return nil
            }
            source = nil
            // A stream that lived a while has earned a quick return; one that ends at once has not.
            if ContinuousClock.now - openedAt > .seconds(5) { backoff.reset() }
            do { try await Task.sleep(for: backoff.next()) } catch { return nil }
        }
        return nil
    }

    private func connected() async throws -> EventSource {
        if let source { return source }
        openedAt = .now
        var call = HTTPCall(path: ["peers", peerId, "commands"], query: [("registration", "\(registration)")])
        if let acknowledged = acceptance.newest { call.headers.add(name: "Last-Event-ID", value: "\(acknowledged)") }
        let source = try await client.eventSource(call)
        self.source = source
        openedAt = .now
        logger.log(level: isAway ? .notice : .debug, "the command stream is open", metadata: ["server": "\(client.server)"])
        isAway = false
        return source
    }

    private func delivery(of event: ServerSentEvent) -> Delivery {
        let id = event.id.flatMap { Int($0) }
        let redelivered = id.map { $0 <= delivered } ?? false
        delivered = max(delivered, id ?? 0)
        return Delivery(body: event.data, redelivered: redelivered) { [acceptance] in
            if let id { acceptance.accept(id) }
        } reject: { [acceptance, logger] reason in
            logger.warning("a command was rejected: \(reason)")
            if let id { acceptance.accept(id) }
        }
    }
}

/// Up to which command a peer has accepted what it was told. Said to the server with whatever goes there next, and when the stream is
/// opened again: a request of its own would cost as much as the answer it precedes.
private final class Acceptance: Sendable {
    private let through = Mutex<Int?>(nil)

    var newest: Int? { through.withLock { $0 } }

    func accept(_ id: Int) {
        through.withLock { $0 = max($0 ?? 0, id) }
    }
}
