public import Tracing

/// Which span something belongs to, as W3C Trace Context has it in the header `traceparent`.
public struct TraceParent: Hashable, Sendable {
    /// 32 lowercase hexadecimal digits.
    public let trace: String
    /// 16 lowercase hexadecimal digits.
    public let span: String

    public init(trace: String, span: String) {
        self.trace = trace
        self.span = span
    }

    /// nil for what is no `00-TRACE-SPAN-FLAGS` of a trace that is recorded.
    public init?(_ text: String?) {
        guard let parts = text?.split(separator: "-", omittingEmptySubsequences: false), parts.count >= 4, parts[0] == "00",
            Self.isIdentifier(parts[1], 32), Self.isIdentifier(parts[2], 16), let flags = UInt8(parts[3], radix: 16), flags & 1 == 1
        else { return nil }
        (trace, span) = (String(parts[1]), String(parts[2]))
    }

    public var text: String { "00-\(trace)-\(span)-01" }

    /// The span of the current task; nil when nothing is traced.
    public static var current: TraceParent? { ServiceContext.current?.traceParent }

    /// A context whose spans belong to this one.
    public var context: ServiceContext {
        var context = ServiceContext.topLevel
        context.traceParent = self
        return context
    }

    private static func isIdentifier(_ text: Substring, _ length: Int) -> Bool {
        text.utf8.count == length && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
            && text.utf8.contains { $0 != 0x30 }
    }
}

private enum ParentKey: ServiceContextKey { typealias Value = TraceParent }
private enum ChosenKey: ServiceContextKey { typealias Value = String }

extension ServiceContext {
    public var traceParent: TraceParent? {
        get { self[ParentKey.self] }
        set { self[ParentKey.self] = newValue }
    }

    /// The id that the next span has, where others must know it before it ends; else it is drawn.
    public var chosenSpan: String? {
        get { self[ChosenKey.self] }
        set { self[ChosenKey.self] = newValue }
    }
}
