import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging

/// What peers say and are told.
struct PeerRoutes: Sendable {
    let documents: any Documents
    let broker: any Broker
    let presence: PresenceMonitor
    let configuration: ServerConfiguration
    let metrics: ServerMetrics

    var routes: [Route] {
        let routes: [Route] = [
            .user(.get, "/peers", "List the peers") { _, _, caller in
                try .json(try await documents.peers().map { API.PeerView($0, mine: $0.ownerId == caller.userId) })
            },
            .peer(.post, "/peers", "Register a peer", register),
            .peer(.post, "/peers/{id}/heartbeat", "A presence beat", beat),
            .peer(.delete, "/peers/{id}", "Say goodbye", leave),
        ]
        guard let broker = broker as? EmbeddedBroker else { return routes }
        return routes + [
            .peer(.get, "/peers/{id}/commands", "Stream of commands") { request, context, caller in
                let id = try peer(context, caller, registration: request.number("registration", in: 1...Int(Int32.max)))
                if let name = HTTPField.Name.lastEventID, let last = request.headers[name].flatMap({ Int($0) }) {
                    broker.acknowledge(peerId: id, through: last)
                }
                return .eventStream(request, buffering: .unbounded, broker.commands(peerId: id))
            },
            .peer(.post, "/peers/{id}/commands/ack", "Acknowledge commands") { request, context, caller in
                let id = try peer(context, caller)
                broker.acknowledge(peerId: id, through: try await request.json(API.CommandAcknowledgement.self).through)
                return .noContent
            },
            .peer(.post, "/peers/{id}/events", "Send events") { request, context, caller in
                try await events(request, context, caller, broker)
            },
        ]
    }

    /// - Throws: ``CohortError`` `conflict` when the peer is not one of the living of this token's owner: it must register.
    private func peer(_ context: Context, _ caller: Caller, registration: Int? = nil) throws -> String {
        let id = try context.parameters.require("id")
        guard presence.knows(id, ownerId: caller.userId, registration: registration) else {
            throw CohortError(.conflict, "peer '\(id.prefix(60))' was given up, or never registered: register (again)")
        }
        return id
    }

    private func register(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        let body = try await request.json(API.Registration.self)
        let about = body.capabilities
        guard (1...65_536).contains(about.cores), about.memoryBytes > 0, about.samplesPerSecond.isFinite, about.samplesPerSecond > 0 else {
            throw CohortError(.invalid, "capabilities: cores, memory_bytes and samples_per_second must be positive numbers")
        }
        for (field, text) in [("engine", about.engine), ("device", about.device)] {
            _ = try AccountRules.name(text, field: "capabilities.\(field)")
        }
        guard about.platform.utf8.count <= 200, about.version.utf8.count <= 64 else {
            throw CohortError(.invalid, "capabilities: platform and version must be short")
        }
        if let id = body.id {
            guard (1...64).contains(id.utf8.count), id.utf8.allSatisfy({ $0 == 0x2d || ($0 | 0x20) &- 0x61 < 26 || $0 &- 0x30 < 10 }) else {
                throw CohortError(.invalid, "id is not one that a server gives: leave it out to get one")
            }
        }
        let now = Date()
        let peer = try await documents.register(
            Peer(
                id: body.id ?? newIdentifier(), name: try AccountRules.name(body.name, field: "name"), ownerId: caller.userId,
                tokenId: caller.tokenId ?? "", capabilities: about, registeredAt: now, lastSeen: now))
        try await broker.declare(.command(peerId: peer.id))
        await presence.registered(peer)
        return try .json(
            API.Registered(
                peerId: peer.id, registration: peer.registration, broker: configuration.broker,
                heartbeatInterval: configuration.heartbeatInterval), status: .created)
    }

    private func beat(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        let id = try context.parameters.require("id")
        let body = try await request.json(API.Beat.self)
        guard presence.beat(peerId: id, registration: body.registration, ownerId: caller.userId) else {
            throw CohortError(.conflict, "this registration of peer '\(id.prefix(60))' is not a living one: register again")
        }
        if let through = body.through, let broker = broker as? EmbeddedBroker { broker.acknowledge(peerId: id, through: through) }
        metrics.count("presence_beats")
        return .noContent
    }

    private func leave(_ request: Request, _ context: Context, _ caller: Caller) async throws -> Response {
        let id = try peer(context, caller, registration: request.number("registration", in: 1...Int(Int32.max)))
        try await documents.setOffline(peerId: id, registration: nil)
        await presence.left(peerId: id)
        return .noContent
    }

    /// One event as JSON, or several of one session as a line each (`application/x-ndjson`).
    private func events(_ request: Request, _ context: Context, _ caller: Caller, _ broker: EmbeddedBroker) async throws -> Response {
        let id = try peer(context, caller)
        let isLines = request.headers[.contentType]?.hasPrefix("application/x-ndjson") == true
        let body = try await request.bytes(upTo: isLines ? 1 << 20 : Self.largestEvent).readableBytesView
        var lines = isLines ? body.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) : [body[...]]
        if isLines, lines.last?.isEmpty == true { lines.removeLast() }
        if let through = try request.number("through", in: 0...Int.max) { broker.acknowledge(peerId: id, through: through) }
        var session: String?
        for line in lines {
            guard line.count <= Self.largestEvent else {
                throw CohortError(.tooLarge, "an event has \(line.count) bytes; it must have at most \(Self.largestEvent)")
            }
            // What it says beyond that is for whoever consumes it.
            let envelope = try CohortJSON.decode(Envelope.self, from: line)
            guard envelope.peerId == id else {
                throw CohortError(.invalid, "peer_id is '\(envelope.peerId.prefix(60))'; it must be the peer's own id, \(id)")
            }
            guard session == nil || session == envelope.sessionId else {
                throw CohortError(.invalid, "events of one request must be of one session")
            }
            session = envelope.sessionId
        }
        guard let session else { throw CohortError(.invalid, "the body holds no event") }
        // Its coordinator fences off what is old and who is not in it; when there is none, the peer's lock tells a session that is over.
        let queue = QueueName.events(sessionId: session)
        if !broker.isConsumed(queue) {
            guard try await documents.peer(id: id)?.sessionId == session else {
                throw CohortError(.conflict, "session '\(session.prefix(60))' is over, or this peer is not in it")
            }
        }
        let refusals = try await broker.publish(lines.map { [UInt8]($0) }, to: queue)
        metrics.count("peer_events", by: lines.count)
        guard isLines else {
            if let refusal = refusals.first, let refusal { throw refusal }
            return .noContent
        }
        return try .json(
            API.EventsTaken(
                refused: refusals.enumerated().compactMap { line, refusal in
                    refusal.map { API.EventsTaken.Refused(line: line, code: $0.code.rawValue, detail: $0.message) }
                }))
    }

    private static let largestEvent = 64 << 10

    private struct Envelope: Decodable {
        var sessionId: String
        var peerId: String
    }
}

extension HTTPField.Name {
    fileprivate static var lastEventID: HTTPField.Name? { HTTPField.Name("Last-Event-ID") }
}
