import AsyncHTTPClient
public import CohortAPI
public import CohortCore
import CohortSystem
public import CohortWire
public import Logging
import NIOCore
import NIOHTTP1
import Synchronization

/// The wire of a peer that speaks HTTP with the server: its commands come on one stream, its events go out by POST.
public struct HTTPPeerTransport: PeerTransport {
    private let client: CohortClient
    private let registered: API.Registered
    private let logger: Logger
    private let acceptance = Acceptance()

    /// - Parameter client: with the peer's credential.
    public init(client: CohortClient, registered: API.Registered, logger: Logger) {
        self.client = client
        self.registered = registered
        self.logger = logger
    }

    /// The id of the newest acknowledged command: sent with the next events or the next beat, whichever is first.
    private var accepted: Int? { acceptance.newest }

    public func run() async throws {
        try await PresenceBeats(client: client, registered: registered, logger: logger).run { acceptance.newest }
    }

    /// A short absence of the server is waited out.
    public func send(_ events: [PeerEvent], to queue: QueueName) async throws {
        var call = HTTPCall(method: .POST, path: ["peers", registered.peerId, "events"])
        call.headers = ["Content-Type": "application/x-ndjson"]
        let lines = try events.map { try CohortJSON.encode($0) }
        call.body = .bytes(ByteBuffer(bytes: lines.joined(separator: [UInt8(ascii: "\n")])))
        if let accepted { call.query = [("through", "\(accepted)")] }
        var backoff = Backoff(first: 0.1)
        for attempt in 1... {
            do {
                return try await client.caller.send(call)
            } catch let error as CohortError where error.code == .unavailable && attempt < 3 {
                try await Task.sleep(for: backoff.next())
            }
        }
    }

    /// A stream that breaks is opened again from the last accepted command on; only a refusal ends it.
    public func commands() async throws -> AsyncThrowingStream<ReceivedCommand, any Error> {
        let commands = CommandStream(client: client, registered: registered, acceptance: acceptance, logger: logger)
        return AsyncThrowingStream { try await commands.next() }
    }
}

/// Pulled by one consumer; nothing is buffered but what the connection holds.
private actor CommandStream {
    private let client: CohortClient
    private let registered: API.Registered
    private let logger: Logger
    private let acceptance: Acceptance
    private var source: EventSource?
    private var openedAt = ContinuousClock.now
    private var backoff = Backoff()
    private var isAway = false

    init(client: CohortClient, registered: API.Registered, acceptance: Acceptance, logger: Logger) {
        self.client = client
        self.registered = registered
        self.acceptance = acceptance
        self.logger = logger
    }

    func next() async throws -> ReceivedCommand? {
        while !Task.isCancelled {
            do {
                let source = try await connected()
                if let event = try await source.next() {
                    backoff.reset()
                    return command(in: event)
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
        var call = HTTPCall(path: ["peers", registered.peerId, "commands"], query: [("registration", "\(registered.registration)")])
        if let acknowledged = acceptance.newest { call.headers.add(name: "Last-Event-ID", value: "\(acknowledged)") }
        let source = try await client.eventSource(call)
        self.source = source
        openedAt = .now
        logger.log(level: isAway ? .notice : .debug, "the command stream is open", metadata: ["server": "\(client.server)"])
        isAway = false
        return source
    }

    private func command(in event: ServerSentEvent) -> ReceivedCommand {
        let id = event.id.flatMap { Int($0) }
        return ReceivedCommand(body: event.data) { [acceptance] in
            if let id { acceptance.accept(id) }
        }
    }
}

/// The newest command that a peer has acknowledged. Sent with the next request to the server, and when the stream is
/// reopened: a separate request would cost as much as the answer that it precedes.
private final class Acceptance: Sendable {
    private let through = Mutex<Int?>(nil)

    var newest: Int? { through.withLock { $0 } }

    func accept(_ id: Int) {
        through.withLock { $0 = max($0 ?? 0, id) }
    }
}
