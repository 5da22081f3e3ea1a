import AsyncHTTPClient
import CohortCore
import FoundationEssentials
public import Logging
import NIOCore
import NIOHTTP1
public import ServiceLifecycle
import Synchronization
import Tracing

/// Sends spans to a collector by OpenTelemetry's protocol over HTTP, as JSON (opentelemetry.io/docs/specs/otlp), a batch twice a second. A
/// collector that is away loses spans, and is never waited for.
public final class OTLPExporter: Service {
    /// Spans that wait; past that the oldest are lost.
    private static let most = 8_192
    private static let batch = 512
    private static let pause = Duration.milliseconds(500)

    private struct Waiting {
        var spans: [FinishedSpan] = []
        var lost = 0
        /// The collector did not take the last batch.
        var isAway = false
    }

    private let url: String
    private let resource: [String: String]
    private let logger: Logger
    private let waiting = Mutex(Waiting())
    private let (wakes, waker) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    /// - Parameters:
    ///   - collector: its URL, such as `http://localhost:4318`; spans go to `/v1/traces` there.
    ///   - service: what the spans are of, such as `cohort-server`.
    /// - Throws: ``CohortError`` `invalid` for what is no http URL.
    public init(collector: String, service: String, version: String, instance: String, logger: Logger) throws {
        guard let parsed = URL(string: collector), ["http", "https"].contains(parsed.scheme), let host = parsed.host(), !host.isEmpty else {
            throw CohortError(
                .invalid,
                "COHORT_OTLP_URL is '\(collector.printable(max: 100))'; it must be a collector's URL, such as http://localhost:4318")
        }
        let base = collector.hasSuffix("/") ? String(collector.dropLast()) : collector
        url = base.hasSuffix("/v1/traces") ? base : "\(base)/v1/traces"
        resource = ["service.name": service, "service.version": version, "service.instance.id": instance]
        self.logger = logger
    }

    /// Makes this the tracer of the process; call it once.
    public func bootstrap() { InstrumentationSystem.bootstrap(tracer) }

    var tracer: OTLPTracer { OTLPTracer { [weak self] in self?.enqueue($0) } }

    private func enqueue(_ span: FinishedSpan) {
        waiting.withLock { waiting in
            waiting.spans.append(span)
            guard waiting.spans.count > Self.most else { return }
            waiting.spans.removeFirst(Self.batch)
            waiting.lost += Self.batch
        }
        waker.yield()
    }

    public func run() async throws {
        var configuration = HTTPClient.Configuration()
        configuration.connectionPool.retryConnectionEstablishment = false
        // A span for each batch of spans would never end.
        configuration.tracing.tracer = nil
        let http = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
        await cancelWhenGracefulShutdown { [wakes] in
            for await _ in wakes {
                // A batch has many; the last of a process are sent below.
                guard (try? await Task.sleep(for: Self.pause)) != nil else { return }
                while let batch = self.next() { await self.send(batch, over: http) }
            }
        }
        while !waiting.withLock({ $0.isAway }), let batch = next() { await send(batch, over: http) }
        try await http.shutdown()
    }

    private func next() -> [FinishedSpan]? {
        waiting.withLock { waiting in
            guard !waiting.spans.isEmpty else { return nil }
            let batch = Array(waiting.spans.prefix(Self.batch))
            waiting.spans.removeFirst(batch.count)
            return batch
        }
    }

    private func send(_ spans: [FinishedSpan], over http: HTTPClient) async {
        do {
            var request = HTTPClientRequest(url: url)
            request.method = .POST
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(ByteBuffer(bytes: try JSONEncoder().encode(OTLPMessage(spans, resource: resource))))
            let response = try await http.execute(request, timeout: .seconds(5))
            _ = try await response.body.collect(upTo: 1 << 20)
            guard (200..<300).contains(response.status.code) else { throw CohortError(.unavailable, "it answered \(response.status)") }
            if waiting.withLock({ waiting in
                defer { waiting.isAway = false }
                return waiting.isAway
            }) {
                logger.notice("the collector at \(url) is back")
            }
        } catch {
            let (wasAway, lost) = waiting.withLock { waiting in
                defer { waiting.isAway = true }
                waiting.lost += spans.count
                return (waiting.isAway, waiting.lost)
            }
            // Said once, not with each batch.
            if !wasAway { logger.warning("spans could not be sent to \(url), and \(lost) are lost: \(error)") }
        }
    }
}
