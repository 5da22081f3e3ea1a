import CohortCore
public import FoundationEssentials
public import Tracing

/// A session's spans: they begin in one process and end in another, or after a restart, so their ids follow from the session, and they are
/// told when they are over, with the time at which they began.
public struct SessionTrace: Sendable {
    /// The parts of a session that have spans.
    public enum Part: Sendable {
        case session
        case round(Int, generation: Int)
    }

    private let request: TraceParent
    private let sessionId: String

    /// - Parameter traceparent: of the request that started the session; the result is nil without a valid one, as the session is then not traced.
    public init?(sessionId: String, traceparent: String?) {
        guard let request = TraceParent(traceparent) else { return nil }
        self.request = request
        self.sessionId = sessionId
    }

    public func parent(_ part: Part) -> TraceParent { TraceParent(trace: request.trace, span: id(part)) }

    private func id(_ part: Part) -> String {
        let name =
            switch part {
            case .session: sessionId
            case .round(let round, let generation): "\(sessionId)/\(generation)/\(round)"
            }
        var generator = SeededGenerator(seed: 0, purpose: name)
        let text = String(max(1, generator.next()), radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    /// Tells of the session (in the request that started it) or of a round (in the session).
    /// - Parameter error: why it failed; nil: it did not.
    public func record(_ name: String, as part: Part, from start: Date, to end: Date, _ attributes: SpanAttributes, error: String? = nil) {
        var context = ServiceContext.topLevel
        if case .session = part { context.traceParent = request } else { context.traceParent = parent(.session) }
        context.chosenSpan = id(part)
        Self.record(name, in: context, from: start, to: end, attributes, error: error)
    }

    /// Tells of something that is over.
    public static func record(
        _ name: String, in context: ServiceContext, from start: Date, to end: Date, _ attributes: SpanAttributes, error: String? = nil
    ) {
        let span = startSpan(name, context: context, ofKind: .internal, at: Moment(start))
        span.attributes.merge(attributes)
        if let error { span.setStatus(SpanStatus(code: .error, message: error)) }
        span.end(at: Moment(end))
    }

    private struct Moment: TracerInstant {
        let nanosecondsSinceEpoch: UInt64

        init(_ date: Date) { nanosecondsSinceEpoch = UInt64(max(0, date.timeIntervalSince1970) * 1e9) }

        static func < (a: Moment, b: Moment) -> Bool { a.nanosecondsSinceEpoch < b.nanosecondsSinceEpoch }
    }
}
