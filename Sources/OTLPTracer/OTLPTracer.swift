import CohortCore
import CohortTracing
import Synchronization
public import Tracing

/// Spans with W3C's ids, given to an exporter when they end.
public struct OTLPTracer: Tracer {
    private let ended: @Sendable (FinishedSpan) -> Void

    init(ended: @escaping @Sendable (FinishedSpan) -> Void) { self.ended = ended }

    public func startSpan<Instant: TracerInstant>(
        _ operationName: String, context: @autoclosure () -> ServiceContext, ofKind kind: SpanKind, at instant: @autoclosure () -> Instant,
        function: String, file fileID: String, line: UInt
    ) -> OTLPSpan {
        var context = context()
        let parent = context.traceParent
        let own = TraceParent(
            trace: parent?.trace ?? Self.identifier() + Self.identifier(), span: context.chosenSpan ?? Self.identifier())
        context.traceParent = own
        // For this one alone.
        context.chosenSpan = nil
        return OTLPSpan(
            FinishedSpan(
                own: own, parent: parent?.span, name: operationName, kind: kind, start: instant().nanosecondsSinceEpoch), in: context,
            onEnd: ended)
    }

    public func forceFlush() {}

    private static func identifier() -> String {
        let text = String(UInt64.random(in: 1...(.max)), radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    public func extract<Carrier, Extract: Extractor>(_ carrier: Carrier, into context: inout ServiceContext, using extractor: Extract)
    where Extract.Carrier == Carrier {
        if let parent = TraceParent(extractor.extract(key: "traceparent", from: carrier)) { context.traceParent = parent }
    }

    public func inject<Carrier, Inject: Injector>(_ context: ServiceContext, into carrier: inout Carrier, using injector: Inject)
    where Inject.Carrier == Carrier {
        if let parent = context.traceParent { injector.inject(parent.text, forKey: "traceparent", into: &carrier) }
    }
}

/// The data of a span that is over.
struct FinishedSpan: Sendable {
    let own: TraceParent
    let parent: String?
    var name: String
    let kind: SpanKind
    /// Nanoseconds since 1970.
    let start: UInt64
    var end: UInt64 = 0
    var attributes: SpanAttributes = [:]
    var events: [SpanEvent] = []
    var links: [SpanLink] = []
    var status: SpanStatus?
}

public final class OTLPSpan: Span {
    public let context: ServiceContext
    private let ended: @Sendable (FinishedSpan) -> Void
    /// nil once it is over.
    private let state: Mutex<FinishedSpan?>
    private let own: FinishedSpan

    init(_ span: FinishedSpan, in context: ServiceContext, onEnd ended: @escaping @Sendable (FinishedSpan) -> Void) {
        self.context = context
        self.ended = ended
        own = span
        state = Mutex(span)
    }

    public var operationName: String {
        get { state.withLock { $0?.name } ?? own.name }
        set { state.withLock { $0?.name = newValue } }
    }

    public var attributes: SpanAttributes {
        get { state.withLock { $0?.attributes } ?? [:] }
        set { state.withLock { $0?.attributes = newValue } }
    }

    public var isRecording: Bool { state.withLock { $0 != nil } }
    public func setStatus(_ status: SpanStatus) { state.withLock { $0?.status = status } }
    public func addEvent(_ event: SpanEvent) { state.withLock { $0?.events.append(event) } }
    public func addLink(_ link: SpanLink) { state.withLock { $0?.links.append(link) } }

    public func recordError<Instant: TracerInstant>(
        _ error: any Error, attributes: SpanAttributes, at instant: @autoclosure () -> Instant
    ) {
        // A cancelled task did not fail.
        guard !(error is CancellationError) else { return }
        let message = (error as? CohortError)?.message ?? "\(error)"
        var attributes = attributes
        attributes["exception.type"] = "\(type(of: error))"
        attributes["exception.message"] = message
        addEvent(SpanEvent(name: "exception", at: instant(), attributes: attributes))
        setStatus(SpanStatus(code: .error, message: message))
    }

    public func end<Instant: TracerInstant>(at instant: @autoclosure () -> Instant) {
        let span = state.withLock { state in
            defer { state = nil }
            return state
        }
        guard var span else { return }
        span.end = max(span.start, instant().nanosecondsSinceEpoch)
        ended(span)
    }
}
