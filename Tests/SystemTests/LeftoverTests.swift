import AsyncHTTPClient
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

extension SystemSuite {
    @Suite(.serialized) struct Leftovers {
        @Test func `a server killed while it takes a file in leaves nothing of it once it runs again`() async throws {
            try await withWorld { world in
                var server = try await world.server()
                let client = try CohortClient(server: ServerURL(server.url), http: world.http)
                let token = try await client.signup(email: "ada@example.org", password: World.password, name: "Ada").accessToken
                let person = client.authenticated(by: token)
                _ = try await world.peers(1, of: server, for: person)
                let started = try await person.startSession(SessionSettings(rounds: 1, hidden: [4]), file: try world.blobs(rows: 60))
                #expect(try await person.final(started.sessionId).status == .completed)
                let data = "\(world.folder)/server"
                let names = { @Sendable in Set(try FileManager.default.contentsOfDirectory(atPath: data)) }
                let before = try names()
                for (life, path) in ["modules", "sessions/\(started.sessionId)/predictions"].enumerated() {
                    var request = HTTPClientRequest(url: "\(server.url)/\(path)")
                    request.method = .POST
                    request.headers.add(name: "Authorization", value: "Bearer \(token)")
                    request.headers.add(name: "Content-Type", value: path == "modules" ? "application/octet-stream" : "text/csv")
                    let (body, source) = AsyncStream.makeStream(of: ByteBuffer.self)
                    request.body = .stream(body, length: .unknown)
                    source.yield(ByteBuffer(string: "a,b,c,d\n1,2,3,4\n"))
                    let (killed, asked) = (server, request)
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask {
                            await #expect(throws: (any Error).self, "\(path) is not answered") {
                                _ = try await world.http.execute(asked, timeout: .seconds(120))
                            }
                        }
                        try await eventually("\(path): its file is there") { try names() != before }
                        try await killed.process.send(SIGKILL)
                        _ = try await killed.process.end()
                        source.finish()
                        try await group.waitForAll()
                    }
                    #expect(try names() != before, "killed, it could not remove it")
                    server = try await world.server("server-\(life + 2)", port: server.port)
                    #expect(try names() == before, "\(path)")
                }
            }
        }
    }
}
