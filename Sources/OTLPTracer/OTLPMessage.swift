import CohortTracing
import Tracing

/// `ExportTraceServiceRequest` as OpenTelemetry's protocol has it in JSON: ids in hexadecimal, 64-bit numbers as texts.
struct OTLPMessage: Encodable {
    let resourceSpans: [ResourceSpans]

    struct ResourceSpans: Encodable {
        let resource: Resource
        let scopeSpans: [ScopeSpans]
    }

    struct Resource: Encodable { let attributes: [Attribute] }

    struct ScopeSpans: Encodable {
        let scope: Scope
        let spans: [Span]
    }

    struct Scope: Encodable { let name: String }

    struct Span: Encodable {
        let traceId: String
        let spanId: String
        let parentSpanId: String?
        let name: String
        let kind: Int
        let startTimeUnixNano: String
        let endTimeUnixNano: String
        let attributes: [Attribute]
        let events: [Event]
        let links: [Link]
        let status: Status

        init(_ span: FinishedSpan) {
            (traceId, spanId, parentSpanId) = (span.own.trace, span.own.span, span.parent)
            name = span.name
            kind =
                switch span.kind {
                case .internal: 1
                case .server: 2
                case .client: 3
                case .producer: 4
                case .consumer: 5
                }
            (startTimeUnixNano, endTimeUnixNano) = ("\(span.start)", "\(span.end)")
            attributes = Attribute.all(span.attributes)
            events = span.events.map {
                Event(timeUnixNano: "\($0.nanosecondsSinceEpoch)", name: $0.name, attributes: Attribute.all($0.attributes))
            }
            links = span.links.compactMap { link in
                link.context.traceParent.map { Link(traceId: $0.trace, spanId: $0.span, attributes: Attribute.all(link.attributes)) }
            }
            let code =
                switch span.status?.code {
                case nil: 0
                case .ok: 1
                case .error: 2
                }
            status = Status(code: code, message: span.status?.message)
        }
    }

    struct Event: Encodable {
        let timeUnixNano: String
        let name: String
        let attributes: [Attribute]
    }

    struct Link: Encodable {
        let traceId: String
        let spanId: String
        let attributes: [Attribute]
    }

    struct Status: Encodable {
        let code: Int
        let message: String?
    }

    struct Attribute: Encodable {
        let key: String
        let value: Value

        static func all(_ attributes: SpanAttributes) -> [Attribute] {
            var all: [Attribute] = []
            attributes.forEach { key, value in all.append(Attribute(key: key, value: Value(value))) }
            return all.sorted { $0.key < $1.key }
        }
    }

    /// One of its fields.
    struct Value: Encodable {
        var stringValue: String?
        var boolValue: Bool?
        var intValue: String?
        var doubleValue: Double?

        init(_ attribute: SpanAttribute) {
            switch attribute {
            case .int32(let value): intValue = "\(value)"
            case .int64(let value): intValue = "\(value)"
            case .double(let value) where value.isFinite: doubleValue = value
            case .bool(let value): boolValue = value
            case .string(let value): stringValue = value
            case .stringConvertible(let value): stringValue = "\(value)"
            default: stringValue = "\(attribute)"
            }
        }
    }

    init(_ spans: [FinishedSpan], resource: [String: String]) {
        let about = resource.sorted { $0.key < $1.key }.map { Attribute(key: $0.key, value: Value(.string($0.value))) }
        resourceSpans = [
            ResourceSpans(
                resource: Resource(attributes: about), scopeSpans: [ScopeSpans(scope: Scope(name: "cohort"), spans: spans.map { Span($0) })]
            )
        ]
    }
}
