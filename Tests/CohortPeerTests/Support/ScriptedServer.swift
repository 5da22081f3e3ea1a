import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortWire
import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore

/// The server's side of a peer's life, told what to say by a test.
actor ScriptedServer {
    struct Refusal: Sendable {
        var status: HTTPResponse.Status
        var code: String
    }

    private(set) var registrations: [API.Registration] = []
    private(set) var beats = 0
    private(set) var goodbyes = 0
    private(set) var acknowledged = 0
    private(set) var events: [PeerEvent] = []
    private(set) var downloads: [String] = []
    private(set) var openings: [Int?] = []
    var objects: [String: [UInt8]] = [:]
    /// What the next event posts are answered with instead of being taken.
    var eventRefusals: [Refusal] = []
    var beatRefusals: [Refusal] = []
    /// Posts with an event of this round are answered as fenced off; its DONEs are kept here.
    private var fencedRound: Int?
    private(set) var fencedDones: [DoneEvent] = []
    var registrationRefusals: [Refusal] = []
    private var commands: [[UInt8]] = []
    private var stream: AsyncStream<ByteBuffer>.Continuation?

    static let peerId = "0b0e7d4e-0000-4000-8000-000000000001"

    func put(_ bytes: [UInt8], at path: String) { objects[path] = bytes }
    func refuse(events: [Refusal] = [], beats: [Refusal] = [], registrations: [Refusal] = []) {
        eventRefusals += events
        beatRefusals += beats
        registrationRefusals += registrations
    }

    func fence(round: Int) { fencedRound = round }

    func send(_ command: Command) throws { send(raw: try CohortJSON.encode(command)) }

    func send(raw: [UInt8]) {
        commands.append(raw)
        stream?.yield(message(commands.count))
    }

    /// Ends the open command stream, as a server that stops does.
    func hangUp() { stream?.finish() }

    var heartbeats: [HeartbeatEvent] { events.compactMap { if case .heartbeat(let event) = $0 { event } else { nil } } }
    var dones: [DoneEvent] { events.compactMap { if case .done(let event) = $0 { event } else { nil } } }
    var errors: [ErrorEvent] { events.compactMap { if case .error(let event) = $0 { event } else { nil } } }
    var enableds: [EnabledEvent] { events.compactMap { if case .enabled(let event) = $0 { event } else { nil } } }

    func handle(_ request: Request) async throws -> Response {
        let body = try await request.bytes()
        let path = request.uri.path
        if path.hasPrefix("/objects/") { return try object(request, path: path, body: body) }
        // The join token registers; everything else takes the credential that registering answered.
        let isRegistering = request.method == .post && request.uri.path == "/peers"
        guard request.headers[.authorization] == (isRegistering ? "Bearer join" : "Bearer credential") else {
            return try .problem(.unauthorized, code: "unauthenticated", detail: "this token is revoked")
        }
        let parts = path.split(separator: "/")
        switch (request.method, parts.count, parts.last ?? "") {
        case (.post, 1, "peers"):
            if let refusal = registrationRefusals.first {
                registrationRefusals.removeFirst()
                return try .problem(refusal.status, code: refusal.code, detail: "registration refused by the test")
            }
            registrations.append(try CohortJSON.decode(API.Registration.self, from: body))
            return try .json(
                API.Registered(
                    peerId: Self.peerId, registration: registrations.count, credential: "credential",
                    broker: BrokerAddress(kind: "http"),
                    heartbeatInterval: 0.05), status: .created)
        case (.post, 3, "heartbeat"):
            let beat = try CohortJSON.decode(API.Beat.self, from: body)
            if let refusal = beatRefusals.first {
                beatRefusals.removeFirst()
                return try .problem(refusal.status, code: refusal.code, detail: "beat refused by the test")
            }
            guard beat.registration == registrations.count else { return try .problem(.conflict, code: "conflict", detail: "stale") }
            beats += 1
            acknowledged = max(acknowledged, beat.through ?? 0)
            return Response(status: .noContent)
        case (.get, 3, "commands"):
            return openStream(after: request.headers[.lastEventID].flatMap { Int($0) })
        case (.post, 3, "events"):
            if let refusal = eventRefusals.first {
                eventRefusals.removeFirst()
                return try .problem(refusal.status, code: refusal.code, detail: "event refused by the test")
            }
            let lines = body.split(separator: UInt8(ascii: "\n"))
            let posted = try lines.map { try CohortJSON.decode(PeerEvent.self, from: $0) }
            let rounds = posted.map { event in
                switch event {
                case .heartbeat(let event): event.round
                case .done(let event): event.round
                default: -1
                }
            }
            if let fencedRound, rounds.contains(fencedRound) {
                for case .done(let event) in posted { fencedDones.append(event) }
                return try .problem(.conflict, code: "conflict", detail: "fenced off by the test")
            }
            acknowledged = max(acknowledged, request.uri.queryParameters["through"].flatMap { Int($0) } ?? 0)
            events += posted
            return Response(status: .noContent)
        case (.delete, 2, _):
            goodbyes += 1
            return Response(status: .noContent)
        default:
            return try .problem(.notFound, code: "not_found", detail: "no such route: \(request.method) \(path)")
        }
    }

    private func openStream(after id: Int?) -> Response {
        openings.append(id)
        acknowledged = max(acknowledged, id ?? 0)
        stream?.finish()
        let (chunks, continuation) = AsyncStream.makeStream(of: ByteBuffer.self)
        stream = continuation
        continuation.yield(ByteBuffer(string: ": ping\n\n"))
        for number in 1...(commands.count + 1) where number > acknowledged && number <= commands.count {
            continuation.yield(message(number))
        }
        return Response(
            status: .ok, headers: [.contentType: "text/event-stream"],
            body: ResponseBody { writer in
                for await chunk in chunks { try await writer.write(chunk) }
                try await writer.finish(nil)
            })
    }

    private func message(_ number: Int) -> ByteBuffer {
        ByteBuffer(string: "id: \(number)\ndata: \(String(decoding: commands[number - 1], as: UTF8.self))\n\n")
    }

    private func object(_ request: Request, path: String, body: [UInt8]) throws -> Response {
        guard request.headers[.authorization] == nil else {
            return try .problem(.badRequest, code: "invalid", detail: "a token came along")
        }
        if request.method == .put {
            objects[path] = body
            return .bytes([], status: .created)
        }
        downloads.append(path)
        guard let bytes = objects[path] else { return try .problem(.notFound, code: "not_found", detail: "there is no object \(path)") }
        return .bytes(bytes)
    }
}

extension HTTPField.Name {
    static let lastEventID = HTTPField.Name("Last-Event-ID")!
}

/// The wire of every peer of these tests.
let overHTTP: PeerTransportFactory = { HTTPPeerTransport(client: $0, registered: $1, logger: $2) }
