import AsyncHTTPClient
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import Foundation
import NIOCore
import NIOHTTP1
import PeerTestSupport
import Testing

@testable import CohortServer

/// The scripted server of the peers' tests answers a peer as the real routes do.
@Suite struct ScriptedServerTests {
    /// One conversation of a peer; each line says what was asked and answered, without what differs from server to server.
    private struct Conversation {
        let http: HTTPClient
        let url: String
        let joinToken: String
        var lines: [String] = []

        mutating func ask(
            _ method: String, _ path: String, as template: String, body: String? = nil, token: String
        ) async throws -> [UInt8] {
            var request = HTTPClientRequest(url: url + path)
            request.method = .RAW(value: method)
            request.headers.add(name: "Authorization", value: "Bearer \(token)")
            if let body {
                request.headers.add(name: "Content-Type", value: "application/json")
                request.body = .bytes(ByteBuffer(string: body))
            }
            let response = try await http.execute(request, timeout: .seconds(120))
            let bytes = [UInt8](buffer: try await response.body.collect(upTo: 1 << 20))
            let type = (response.headers.first(name: "content-type") ?? "").split(separator: ";").first.map(String.init) ?? ""
            let code = (try? CohortJSON.decode(API.Problem.self, from: bytes).code) ?? "none"
            lines.append("\(method) \(template): \(response.status.code), \(type), code \(code)")
            let faults = try DescribedAPI.faults(
                method, path,
                ServerWorld.Answer(
                    status: Int(response.status.code), headers: ["content-type": type], body: String(decoding: bytes, as: UTF8.self)))
            #expect(faults.isEmpty, "\(method) \(template) is not answered as the API's description says: \(faults)")
            return bytes
        }

        /// - Parameters:
        ///   - send: sends a command to the peer.
        ///   - session: whose events are accepted.
        mutating func run(session: String, send: (_ peerId: String) async throws -> Void) async throws -> [String] {
            let registration = ServerWorld.registration("lab")
            _ = try await ask("POST", "/peers", as: "/peers", body: registration, token: "another")
            let registered = try CohortJSON.decode(
                API.Registered.self, from: await ask("POST", "/peers", as: "/peers", body: registration, token: joinToken))
            #expect(registered.broker.kind == .http && registered.registration == 1 && registered.heartbeatInterval > 0)
            let (peer, token) = ("/peers/\(registered.peerId)", registered.credential)
            _ = try await ask("POST", "\(peer)/heartbeat", as: "heartbeat", body: #"{"registration":1}"#, token: token)
            _ = try await ask("POST", "\(peer)/heartbeat", as: "stale heartbeat", body: #"{"registration":7}"#, token: token)
            _ = try await ask(
                "POST", "\(peer)/heartbeat", as: "heartbeat by the join token", body: #"{"registration":1}"#, token: joinToken)

            try await send(registered.peerId)
            var request = HTTPClientRequest(url: "\(url)\(peer)/commands?registration=1")
            request.headers.add(name: "Authorization", value: "Bearer \(token)")
            let stream = try await http.execute(request, timeout: .seconds(120))
            lines.append(
                "GET commands: \(stream.status.code), \(stream.headers.first(name: "content-type")?.split(separator: ";").first ?? "")")
            var text = ""
            for try await chunk in stream.body {
                text += String(buffer: chunk)
                if text.contains("data: "), text.hasSuffix("\n\n") { break }
            }
            // A comment first, then the command with its id.
            let events = text.components(separatedBy: "\n\n").filter { !$0.isEmpty }
            #expect(events.first?.hasPrefix(": ") == true, "\(text)")
            let command = try #require(events.first { $0.contains("data: ") }).split(separator: "\n")
            let id = try #require(command.first?.hasPrefix("id: ") == true ? Int(command[0].dropFirst(4)) : nil)
            lines.append("a command: \(command.dropFirst().joined())")

            let event = #"{"type":"READY","session_id":"\#(session)","peer_id":"\#(registered.peerId)","generation":1}"#
            _ = try await ask("POST", "\(peer)/events?through=\(id)", as: "events", body: event, token: token)
            _ = try await ask("DELETE", "\(peer)?registration=1", as: "goodbye", token: token)
            return lines
        }
    }

    private static let stop = Command.stop(StopCommand(sessionId: "s", reason: .completed))

    @Test func `answers a peer as the real routes do`() async throws {
        let scripted = ScriptedServer()
        let expected = try await withHTTPServer { request in
            try await scripted.handle(request)
        } _: { server, http in
            var conversation = Conversation(http: http, url: server.text, joinToken: "join")
            return try await conversation.run(session: "s") { _ in try await scripted.send(Self.stop) }
        }
        try await withServer { world in
            let joinToken = try await world.joinToken(try await world.signup())
            let queue = QueueName.events(sessionId: "s")
            let events = try await world.broker.events(of: queue)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { for try await event in events { try await event.settle(.accepted) } }
                var conversation = Conversation(http: world.http, url: world.url, joinToken: joinToken)
                let lines = try await conversation.run(session: "s") { try await world.broker.send(Self.stop, to: $0) }
                #expect(lines == expected)
                group.cancelAll()
            }
        }
    }
}
