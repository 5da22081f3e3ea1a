import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import Foundation
import Hummingbird
import NIOCore
import ServiceLifecycle
import Subprocess
import Synchronization
import TestSupport
import Testing

extension SystemSuite {
    @Suite(.serialized) struct Traces {
        @Test func `spans lead from the request to the peers' epochs`() async throws {
            try await withCollector { collector in
                try await withWorld { world in
                    let traced = ["COHORT_OTLP_URL": collector.url]
                    let server = try await world.server(environment: traced)
                    let person = try await world.person(server)
                    _ = try await world.peers(2, of: server, for: person, environment: traced)
                    let started = try await person.startSession(
                        SessionSettings(peers: 2, rounds: 2, epochs: 3, hidden: [4]), file: try world.blobs(rows: 60))
                    #expect(try await person.final(started.sessionId).status == .completed)
                    // Two peers, two rounds, three epochs; told of in batches.
                    try await eventually("all epochs are reported") { collector.spans.count { $0.name == "epoch" } == 12 }
                    try await eventually("the session is reported") { collector.spans.contains { $0.name == "session" } }

                    let spans = collector.spans
                    let request = try #require(spans.first { $0.name == "POST /sessions/start" })
                    let own = spans.filter { $0.trace == request.trace }
                    let byId = Dictionary(own.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
                    #expect(byId.count == own.count, "no id comes twice")
                    func path(_ span: Collector.Span) -> [String] {
                        [span.name] + (span.parent.flatMap { byId[$0] }.map(path) ?? [])
                    }
                    for epoch in own where epoch.name == "epoch" {
                        #expect(path(epoch) == ["epoch", "train", "round", "session", "POST /sessions/start"])
                        #expect(epoch.service == "cohort-peer")
                    }
                    #expect(own.count { $0.name == "epoch" } == 12 && own.count { $0.name == "round" } == 2)
                    #expect(
                        own.filter { $0.name == "aggregate" }.allSatisfy {
                            path($0).dropFirst() == ["round", "session", "POST /sessions/start"]
                        })
                    #expect(own.allSatisfy { $0.start <= $0.end })
                    #expect(!spans.contains { $0.name.contains("heartbeat") || $0.name.contains("/health") })
                }
            }
        }

        @Test func `a collector that is away costs nothing but its spans, and an invalid URL is reported at the start`() async throws {
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_OTLP_URL": "http://127.0.0.1:9"])
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let started = try await person.startSession(SessionSettings(rounds: 2, hidden: [4]), file: try world.blobs(rows: 60))
                #expect(try await person.final(started.sessionId).status == .completed)
                try await eventually("it is reported") {
                    server.process.standardError.contains("spans could not be sent to http://127.0.0.1:9/v1/traces")
                }
                try await server.process.send(SIGTERM)
                #expect(try await server.process.end() == .exited(0))

                let wrong = world.start(
                    "wrong", ["serve", "--port", "0", "--data-dir", "\(world.folder)/wrong"], environment: ["COHORT_OTLP_URL": "jaeger"])
                #expect(try await wrong.end() != .exited(0))
                #expect(wrong.standardError.contains("COHORT_OTLP_URL is 'jaeger'; it must be a collector's URL"), "\(wrong.standardError)")
            }
        }
    }

    /// A collector that keeps what it is sent.
    final class Collector: Sendable {
        struct Span: Sendable {
            var service: String
            var name: String
            var trace: String
            var id: String
            var parent: String?
            var start: UInt64
            var end: UInt64
        }

        private let received = Mutex<[Span]>([])
        private let address = Mutex("")
        var spans: [Span] { received.withLock { $0 } }
        var url: String { address.withLock { $0 } }

        func listens(on port: Int) { address.withLock { $0 = "http://127.0.0.1:\(port)" } }

        func append(_ body: Data) throws {
            let message = try #require(JSONSerialization.jsonObject(with: body) as? [String: Any])
            for resource in message["resourceSpans"] as? [[String: Any]] ?? [] {
                let about = (resource["resource"] as? [String: Any])?["attributes"] as? [[String: Any]] ?? []
                let service = about.first { $0["key"] as? String == "service.name" }?["value"] as? [String: Any]
                for scope in resource["scopeSpans"] as? [[String: Any]] ?? [] {
                    for span in scope["spans"] as? [[String: Any]] ?? [] {
                        let found = Span(
                            service: service?["stringValue"] as? String ?? "", name: try #require(span["name"] as? String),
                            trace: try #require(span["traceId"] as? String), id: try #require(span["spanId"] as? String),
                            parent: span["parentSpanId"] as? String,
                            start: try #require(UInt64(span["startTimeUnixNano"] as? String ?? "")),
                            end: try #require(UInt64(span["endTimeUnixNano"] as? String ?? "")))
                        received.withLock { $0.append(found) }
                    }
                }
            }
        }
    }

    private static func withCollector(_ body: @escaping @Sendable (Collector) async throws -> Void) async throws {
        let collector = Collector()
        let router = Router()
        router.post("/v1/traces") { request, _ in
            let body = try await request.body.collect(upTo: 8 << 20)
            try collector.append(Data(body.readableBytesView))
            return Response(status: .ok, headers: [.contentType: "application/json"], body: .init(byteBuffer: .init(string: "{}")))
        }
        let (ports, told) = AsyncStream<Int>.makeStream()
        let app = Application(
            router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { channel in told.yield(channel.localAddress?.port ?? 0) })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await app.run() }
            for await port in ports {
                collector.listens(on: port)
                break
            }
            try await body(collector)
            group.cancelAll()
        }
    }
}
