import CohortAPI
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging

/// Registration, beats, events and commands of peers.
struct PeerRoutes: Sendable {
    let documents: any Documents
    let gateway: any PeerGateway
    let presence: PresenceMonitor
    let configuration: ServerConfiguration
    let metrics: ServerMetrics
    let authenticator: Authenticator
    let time: any TimeSource
    private let registering = SerialQueue()
    /// New machines, by join token.
    private let registrations: RateLimiter

    init(
        documents: any Documents, gateway: any PeerGateway, presence: PresenceMonitor, configuration: ServerConfiguration,
        metrics: ServerMetrics, authenticator: Authenticator, time: any TimeSource
    ) {
        self.documents = documents
        self.gateway = gateway
        self.presence = presence
        self.configuration = configuration
        self.metrics = metrics
        self.authenticator = authenticator
        self.time = time
        registrations = RateLimiter(perMinute: configuration.registrationsPerMinute, burst: 2 * configuration.machinesOfToken)
    }

    var routes: [Route] {
        [
            .user(.get, "/peers", summary: "List one's own peers, and those that serve everyone") { _, _, caller in
                let peers = try await documents.peers(visibleTo: caller.userId).map { API.PeerView($0, mine: $0.ownerId == caller.userId) }
                return try await .json(list: peers)
            },
            .peer(.post, "/peers", summary: "Register a peer", register),
            .machine(.post, "/peers/{id}/heartbeat", "A presence beat", beat),
            .machine(.delete, "/peers/{id}", "Say goodbye", leave),
            .machine(.get, "/peers/{id}/commands", "Stream of commands") { request, _, caller, peer in
                try await presence.check(peer, caller, registration: request.number("registration", in: 1...Int(Int32.max)))
                if let name = HTTPField.Name.lastEventID, let last = request.headers[name].flatMap({ Int($0) }) {
                    try await gateway.acknowledge(peerId: peer.id, through: last)
                }
                let commands = try await gateway.commands(of: peer.id)
                // As many as wait for the peer, which its gateway bounds.
                return .eventStream(request, buffering: .unbounded) { sink in
                    for try await command in commands { sink.yield(StreamedEvent(id: command.id, data: command.body).buffer) }
                }
            },
            .machine(.post, "/peers/{id}/commands/ack", "Acknowledge commands") { request, _, caller, peer in
                try await presence.check(peer, caller)
                try await gateway.acknowledge(peerId: peer.id, through: try await request.json(API.CommandAcknowledgement.self).through)
                return .noContent
            },
            .machine(.post, "/peers/{id}/events", "Send events") { request, _, caller, peer in
                try await events(request, caller: caller, of: peer)
            },
        ]
    }

    private func register(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        let body = try await request.json(API.Registration.self)
        let about = body.capabilities
        for (field, text) in [("engine", about.engine), ("device", about.device)] {
            _ = try AccountRules.name(text, field: "capabilities.\(field)")
        }
        try Self.checkEncodings(of: about)
        let transport = body.transport ?? .http
        guard [.http, .amqp].contains(transport) else {
            throw CohortError(.invalid, "transport is '\(transport.rawValue.printable(max: 40))'; it must be http or amqp")
        }
        let isBack = if let id = body.id { try await isKnown(id, credential: body.credential, caller: caller) } else { false }
        if !isBack { try await checkRoom(for: caller) }
        let now = time.date
        let peer = try await register(
            Peer(
                id: isBack ? body.id ?? newIdentifier() : newIdentifier(), name: try AccountRules.name(body.name, field: "name"),
                ownerId: caller.userId,
                tokenId: caller.tokenId ?? "", capabilities: about, serve: body.serve ?? .mine, registeredAt: now, lastSeen: now))
        var broker = configuration.broker
        if transport == .amqp {
            guard let address = try await gateway.admit(peerId: peer.id, registration: peer.registration) else {
                throw CohortError(
                    .invalid,
                    "transport is amqp, but this server's peers speak http with it: it has no RabbitMQ for them (COHORT_BROKER_PEER_URL)")
            }
            broker = address
        }
        await presence.registered(peer)
        let credential = try await authenticator.tokens.sign(
            Claims(
                sub: caller.userId, scope: .machine, iat: now.timeIntervalSince1970, exp: nil, jti: caller.tokenId, peer: peer.id,
                registration: peer.registration))
        return try .json(
            API.Registered(
                peerId: peer.id, name: peer.name, registration: peer.registration, credential: credential, broker: broker,
                heartbeatInterval: configuration.heartbeatInterval, ownerId: caller.userId), status: .created)
    }

    /// - Throws: ``CohortError`` `invalid` for a peer that cannot read the rows that this server deals.
    private static func checkEncodings(of about: PeerCapabilities) throws {
        guard !about.encodings.isEmpty else {
            throw CohortError(
                .invalid,
                "this peer is of version \(about.version), which reads CSVs; this server, of version \(CohortVersion.current), deals packed rows: install the server's version on this machine (a peer of your own lists `encodings` in its capabilities)"
            )
        }
        let missing = PeerCapabilities.ownEncodings.filter { !about.encodings.contains($0) }
        guard missing.isEmpty else {
            throw CohortError(.invalid, "capabilities.encodings lacks \(missing.joined(separator: ", ")): a peer must read all of them")
        }
    }

    /// A token that got into the wrong hands fills neither the pool nor the documents.
    /// - Throws: ``HTTPProblem`` 429 after too many registrations, ``CohortError`` `conflict` when the token has as many machines as it may.
    private func checkRoom(for caller: Caller) async throws {
        let id = caller.tokenId ?? ""
        if let wait = registrations.acquire(id) {
            throw AuthRoutes.tooMany("new machines by this join token", wait)
        }
        let most = configuration.machinesOfToken
        guard try await documents.livingPeers(tokenId: id) < most else {
            throw CohortError(
                .conflict,
                "this join token has \(most) machines online, which is the most that one may have: make another token, or set COHORT_MACHINES_PER_TOKEN on the server"
            )
        }
    }

    /// Machines that are made alike share a host name: each further one is `name-2`, `name-3`, …, and keeps that when it comes back.
    /// One at a time; of two that register at two servers at once, the one with the smaller id keeps the name.
    private func register(_ peer: Peer) async throws -> Peer {
        try await registering.run { try await named(peer) }
    }

    private func named(_ peer: Peer) async throws -> Peer {
        let before = try await documents.peer(id: peer.id)?.name
        let base = String(peer.name.prefix(56))
        while true {
            // A name that is cut short has none made from it whole.
            var others = try await documents.peers(named: base)
            if base != peer.name { others += try await documents.peers(named: peer.name) }
            var named = peer
            named.name = freeName(peer, base, before: before, among: others)
            let stored = try await documents.register(named)
            let rivals = try await documents.peers(named: stored.name)
            guard rivals.contains(where: { $0.id < stored.id && $0.name == stored.name && isAround($0) }) else { return stored }
        }
    }

    private func freeName(_ peer: Peer, _ base: String, before: String?, among others: [NamedPeer]) -> String {
        let taken = Set(others.filter { $0.id != peer.id && isAround($0) }.map(\.name))
        let stem = "\(base)-"
        if let before, !taken.contains(before), before.hasPrefix(stem), Int(before.dropFirst(stem.count)) != nil { return before }
        var name = peer.name
        var number = 1
        while taken.contains(name) {
            number += 1
            name = "\(stem)\(number)"
        }
        return name
    }

    /// Those gone for longer than a day hold no name.
    private func isAround(_ peer: NamedPeer) -> Bool {
        peer.status != .offline || time.date.timeIntervalSince(peer.lastSeen) < 86_400
    }

    /// Returns whether the id is of an earlier registration of the same machine.
    /// - Throws: ``CohortError`` `conflict` for an id whose credential is missing or another peer's: a join token alone replaces no peer.
    private func isKnown(_ id: String, credential: String?, caller: Caller) async throws -> Bool {
        guard let credential, await authenticator.isCredential(credential, ofPeer: id, ownerId: caller.userId) else {
            throw CohortError(
                .conflict,
                "the peer id '\(id.printable(max: 64))' needs the credential that its registration answered: send it, or leave id out to join as a new peer"
            )
        }
        return true
    }

    private func beat(
        _ request: Request, _ context: Context, caller: Caller, of peer: (id: String, registration: Int)
    ) async throws -> Response {
        let body = try await request.json(API.Beat.self)
        guard body.registration == peer.registration,
            try await presence.beat(peerId: peer.id, registration: body.registration, ownerId: caller.userId)
        else {
            throw CohortError(.conflict, "this registration of peer '\(peer.id)' is not a living one: register again")
        }
        if let through = body.through { try await gateway.acknowledge(peerId: peer.id, through: through) }
        metrics.count("presence_beats")
        return .noContent
    }

    private func leave(
        _ request: Request, _ context: Context, caller: Caller, of peer: (id: String, registration: Int)
    ) async throws -> Response {
        try await presence.check(peer, caller, registration: request.number("registration", in: 1...Int(Int32.max)))
        try await documents.setOffline(peerId: peer.id, registration: peer.registration, hasLeft: true)
        await presence.left(peerId: peer.id)
        return .noContent
    }

    /// One event as JSON, or several of one session as a line each (`application/x-ndjson`).
    private func events(
        _ request: Request, caller: Caller, of peer: (id: String, registration: Int)
    ) async throws -> Response {
        try await presence.check(peer, caller)
        let id = peer.id
        let isLines = request.headers[.contentType]?.hasPrefix("application/x-ndjson") == true
        let body = try await request.bytes(upTo: isLines ? 1 << 20 : Self.maxEventBytes).readableBytesView
        var lines = isLines ? body.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) : [body[...]]
        if isLines, lines.last?.isEmpty == true { lines.removeLast() }
        guard lines.count <= Self.maxEvents else {
            throw CohortError(.tooLarge, "there are \(lines.count) events in one request; at most \(Self.maxEvents) are taken")
        }
        if let through = try request.number("through", in: 0...Int.max) { try await gateway.acknowledge(peerId: id, through: through) }
        var session: String?
        for line in lines {
            guard line.count <= Self.maxEventBytes else {
                throw CohortError(.tooLarge, "an event has \(line.count) bytes; it must have at most \(Self.maxEventBytes)")
            }
            // Other fields are for the consumer.
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
        if await !gateway.isConsumed(queue) {
            guard try await documents.peer(id: id)?.sessionId == session else {
                throw CohortError(.conflict, "session '\(session.prefix(60))' is over, or this peer is not in it")
            }
        }
        try await gateway.publish(lines.map { [UInt8]($0) }, from: id, to: queue)
        metrics.count("peer_events", by: lines.count)
        return .noContent
    }

    private static let maxEventBytes = 64 << 10
    private static let maxEvents = 64

    private struct Envelope: Decodable {
        var sessionId: String
        var peerId: String
    }
}

extension HTTPField.Name {
    fileprivate static var lastEventID: HTTPField.Name? { HTTPField.Name("Last-Event-ID") }
}

extension PresenceMonitor {
    /// - Throws: ``CohortError`` `conflict` when this registration is not a living one: the peer must register again.
    func check(_ peer: (id: String, registration: Int), _ caller: Caller, registration: Int? = nil) async throws {
        guard registration ?? peer.registration == peer.registration,
            try await knows(peer.id, ownerId: caller.userId, registration: peer.registration)
        else {
            throw CohortError(.conflict, "this registration of peer '\(peer.id)' was lost, or replaced by a newer one: register again")
        }
    }
}
