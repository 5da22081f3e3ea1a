import CohortCore
import CohortTracing
import Foundation
import Synchronization
import Testing
import Tracing

@testable import OTLPTracer

@Suite struct OTLPTracerTests {
    private final class Spans: Sendable {
        private let ended = Mutex<[FinishedSpan]>([])
        var all: [FinishedSpan] { ended.withLock { $0 } }
        var tracer: OTLPTracer { OTLPTracer { span in self.ended.withLock { $0.append(span) } } }
    }

    private struct Dictionary: Extractor, Injector {
        func extract(key: String, from carrier: [String: String]) -> String? { carrier[key] }
        func inject(_ value: String, forKey key: String, into carrier: inout [String: String]) { carrier[key] = value }
    }

    @Test(arguments: [
        "", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-xx",
    ]) func `what is no traceparent is none`(text: String) { #expect(TraceParent(text) == nil) }

    @Test func `spans belong to what the request says, and say so to others`() throws {
        let spans = Spans()
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        var context = ServiceContext.topLevel
        spans.tracer.extract(["traceparent": text], into: &context, using: Dictionary())
        let outer = spans.tracer.startSpan("outer", context: context, ofKind: .server)
        var carrier: [String: String] = [:]
        spans.tracer.inject(outer.context, into: &carrier, using: Dictionary())
        let inner = spans.tracer.startSpan("inner", context: outer.context)
        inner.end()
        outer.end()
        outer.end()
        #expect(spans.all.map(\.name) == ["inner", "outer"], "once each")
        #expect(spans.all[1].parent == "00f067aa0ba902b7" && spans.all[1].own.trace == "4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(spans.all[0].parent == spans.all[1].own.span && spans.all[0].own.trace == spans.all[1].own.trace)
        #expect(carrier["traceparent"] == spans.all[1].own.text)
        #expect(spans.tracer.startSpan("other", context: .topLevel).context.traceParent?.trace != spans.all[0].own.trace)
    }

    @Test func `a chosen id is the next span's alone`() {
        let spans = Spans()
        var context = ServiceContext.topLevel
        context.chosenSpan = "00000000000000ff"
        let outer = spans.tracer.startSpan("outer", context: context)
        let inner = spans.tracer.startSpan("inner", context: outer.context)
        #expect(outer.context.traceParent?.span == "00000000000000ff" && inner.context.traceParent?.span != "00000000000000ff")
    }

    @Test func `the message is OpenTelemetry's, and nothing in it is no JSON`() throws {
        let spans = Spans()
        let span = spans.tracer.startSpan("work", context: .topLevel, ofKind: .client)
        span.attributes["loss"] = Double.nan
        span.attributes["rows"] = 7
        span.attributes["ok"] = true
        span.recordError(CohortError(.invalid, "line 3 is wrong"))
        span.end()
        let data = try JSONEncoder().encode(OTLPMessage(spans.all, resource: ["service.name": "cohort-test"]))
        let message = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
        let resource = try #require((message["resourceSpans"] as? [[String: Any]])?.first)
        let about = try #require((resource["resource"] as? [String: Any])?["attributes"] as? [[String: Any]])
        #expect(about.first?["key"] as? String == "service.name")
        let sent = try #require(((resource["scopeSpans"] as? [[String: Any]])?.first?["spans"] as? [[String: Any]])?.first)
        #expect(sent["kind"] as? Int == 3 && (sent["traceId"] as? String)?.count == 32 && (sent["spanId"] as? String)?.count == 16)
        #expect(UInt64(sent["endTimeUnixNano"] as? String ?? "") ?? 0 > 1_700_000_000_000_000_000)
        let status = try #require(sent["status"] as? [String: Any])
        #expect(status["code"] as? Int == 2 && status["message"] as? String == "line 3 is wrong")
        let attributes = try #require(sent["attributes"] as? [[String: Any]])
        let values = Swift.Dictionary(
            uniqueKeysWithValues: attributes.map { ($0["key"] as? String ?? "", $0["value"] as? [String: Any] ?? [:]) })
        #expect(values["rows"]?["intValue"] as? String == "7" && values["ok"]?["boolValue"] as? Bool == true)
        #expect(values["loss"]?["stringValue"] != nil)
    }
}
