import Synchronization

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// The server's metrics, and their text for Prometheus (exposition format 0.0.4).
final class ServerMetrics: Sendable {
    private struct Series: Hashable {
        var method: String
        var route: String
    }
    private struct Latency {
        var buckets = [Int](repeating: 0, count: ServerMetrics.bounds.count)
        var count = 0
        var sum = 0.0
    }
    private struct State {
        var answers: [Series: [Int: Int]] = [:]
        var latencies: [Series: Latency] = [:]
        var counters: [String: Int] = [:]
    }

    /// Seconds.
    private static let bounds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30]
    private let state = Mutex(State())

    func answered(method: String, route: String, status: Int, in duration: Duration) {
        let seconds = Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
        // Methods come from outside: one series for all that are not the API's.
        let known = ["GET", "POST", "PUT", "DELETE", "HEAD"].contains(method)
        let series = Series(method: known ? method : "OTHER", route: route)
        state.withLock { state in
            state.answers[series, default: [:]][status, default: 0] += 1
            let bucket = Self.bounds.firstIndex { seconds <= $0 }
            if let bucket { state.latencies[series, default: Latency()].buckets[bucket] += 1 }
            state.latencies[series, default: Latency()].count += 1
            state.latencies[series, default: Latency()].sum += seconds
        }
    }

    func count(_ counter: String, by amount: Int = 1) { state.withLock { $0.counters[counter, default: 0] += amount } }

    /// - Parameter gauges: values of this moment: name, labels, value.
    func text(gauges: [(name: String, labels: String, value: Int)]) -> String {
        let state = state.withLock { $0 }
        var text = "# TYPE cohort_http_requests_total counter\n"
        let series = state.answers.keys.sorted { ($0.route, $0.method) < ($1.route, $1.method) }
        for one in series {
            for (status, count) in (state.answers[one] ?? [:]).sorted(by: { $0.key < $1.key }) {
                text += "cohort_http_requests_total{\(labels(one)),status=\"\(status)\"} \(count)\n"
            }
        }
        text += "# TYPE cohort_http_request_duration_seconds histogram\n"
        for one in series {
            guard let latency = state.latencies[one] else { continue }
            var total = 0
            for (bound, count) in zip(Self.bounds, latency.buckets) {
                total += count
                text += "cohort_http_request_duration_seconds_bucket{\(labels(one)),le=\"\(bound)\"} \(total)\n"
            }
            text += "cohort_http_request_duration_seconds_bucket{\(labels(one)),le=\"+Inf\"} \(latency.count)\n"
            text += "cohort_http_request_duration_seconds_sum{\(labels(one))} \(latency.sum)\n"
            text += "cohort_http_request_duration_seconds_count{\(labels(one))} \(latency.count)\n"
        }
        for (name, value) in state.counters.sorted(by: { $0.key < $1.key }) {
            text += "# TYPE cohort_\(name)_total counter\ncohort_\(name)_total \(value)\n"
        }
        var last = ""
        for gauge in gauges {
            if gauge.name != last { text += "# TYPE \(gauge.name) gauge\n" }
            last = gauge.name
            text += "\(gauge.name)\(gauge.labels.isEmpty ? "" : "{\(gauge.labels)}") \(gauge.value)\n"
        }
        return text
    }

    /// Bytes of memory the process holds; nil where the system does not say. Reads a file of the kernel's, which does not block.
    static var residentMemory: Int? {
        guard let file = fopen("/proc/self/statm", "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return nil }
        let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        let fields = text.split(separator: " ")
        return fields.count > 1 ? Int(fields[1]).map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) } : nil
    }

    private func labels(_ series: Series) -> String { "method=\"\(series.method)\",route=\"\(series.route)\"" }
}
