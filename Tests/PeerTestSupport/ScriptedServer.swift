package import CohortAPI
import CohortClient
import CohortCore
package import CohortPeer
package import CohortWire
import FoundationEssentials
package import HTTPTypes
package import Hummingbird
import NIOCore

/// The server's side of a peer's life, told what to say by a test.
package actor ScriptedServer {
    package init() {}

    package struct Refusal: Sendable {
        package var status: HTTPResponse.Status
        package var code: String

        package init(status: HTTPResponse.Status, code: String) {
            self.status = status
            self.code = code
        }
    }

    package private(set) var registrations: [API.Registration] = []
    package private(set) var beats = 0
    package private(set) var goodbyes = 0
    package private(set) var acknowledged = 0
    package private(set) var events: [PeerEvent] = []
    package private(set) var downloads: [String] = []
    package private(set) var openings: [Int?] = []
    package var objects: [String: [UInt8]] = [:]
    /// The table of every session.
    private var table: ServedTable?
    /// The requests for rows, without the path up to the session.
    package private(set) var rowRequests: [String] = []
    /// What the next event posts are answered with instead of being taken.
    package var eventRefusals: [Refusal] = []
    package var beatRefusals: [Refusal] = []
    /// Posts with an event of this round are answered as fenced off; its DONEs are kept here.
    private var fencedRound: Int?
    package private(set) var fencedDones: [DoneEvent] = []
    package var registrationRefusals: [Refusal] = []
    private var commands: [[UInt8]] = []
    private var stream: AsyncStream<ByteBuffer>.Continuation?

    package static let peerId = "0b0e7d4e-0000-4000-8000-000000000001"

    package func serve(_ table: ServedTable) { self.table = table }
    package func put(_ bytes: [UInt8], at path: String) { objects[path] = bytes }
    package func refuse(events: [Refusal] = [], beats: [Refusal] = [], registrations: [Refusal] = []) {
        eventRefusals += events
        beatRefusals += beats
        registrationRefusals += registrations
    }

    package func fence(round: Int) { fencedRound = round }

    package func send(_ command: Command) throws { send(raw: try CohortJSON.encode(command)) }

    package func send(raw: [UInt8]) {
        commands.append(raw)
        stream?.yield(message(commands.count))
    }

    /// Ends the open command stream, as a server that stops does.
    package func hangUp() { stream?.finish() }

    package var heartbeats: [HeartbeatEvent] { events.compactMap { if case .heartbeat(let event) = $0 { event } else { nil } } }
    package var dones: [DoneEvent] { events.compactMap { if case .done(let event) = $0 { event } else { nil } } }
    package var errors: [ErrorEvent] { events.compactMap { if case .error(let event) = $0 { event } else { nil } } }
    package var enableds: [EnabledEvent] { events.compactMap { if case .enabled(let event) = $0 { event } else { nil } } }

    package func handle(_ request: Request) async throws -> Response {
        let body = try await request.bytes()
        let path = request.uri.path
        if path.hasPrefix("/objects/") { return try object(request, path: path, body: body) }
        // The join token registers; everything else takes the credential that registering answered.
        let isRegistering = request.method == .post && request.uri.path == "/peers"
        if !isRegistering, request.headers[.authorization] == "Bearer join" {
            return try .problem(.forbidden, code: "forbidden", detail: "a join token only registers")
        }
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
                    broker: BrokerAddress(kind: .http),
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
        case (.get, 5, "table"), (.get, 6, _):
            return try rows(request, of: parts)
        case (.delete, 2, _):
            goodbyes += 1
            return Response(status: .noContent)
        default:
            return try .problem(.notFound, code: "not_found", detail: "no such route: \(request.method) \(path)")
        }
    }

    private func rows(_ request: Request, of path: [Substring]) throws -> Response {
        let query = request.uri.query.map { "?\($0)" } ?? ""
        rowRequests.append(path.dropFirst(4).joined(separator: "/") + query)
        guard let table, path[2] == "sessions" else { return try .problem(.notFound, code: "not_found", detail: "there is no table") }
        if path.count == 5 { return .bytes(table.manifestBytes) }
        if path[5] == "dictionary" { return .bytes(table.dictionary) }
        guard let number = Int(path[5]), table.parts.indices.contains(number) else {
            return try .problem(.notFound, code: "not_found", detail: "there is no part \(path[5])")
        }
        guard let start = request.uri.queryParameters["start"].flatMap({ Int($0) }),
            let end = request.uri.queryParameters["end"].flatMap({ Int($0) })
        else { return .bytes(table.parts[number]) }
        return .bytes(table.records(start..<end))
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
    package static let lastEventID = HTTPField.Name("Last-Event-ID")!
}

/// The wire of every peer of these tests.
package let overHTTP: PeerTransportFactory = { HTTPPeerTransport(client: $0, registered: $1, logger: $2) }
