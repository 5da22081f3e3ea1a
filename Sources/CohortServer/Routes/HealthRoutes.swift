import CohortCore
import CohortSession
import CohortWire
import Hummingbird

/// Liveness, readiness and metrics.
struct HealthRoutes: Sendable {
    let parts: ServerParts
    let metrics: ServerMetrics

    private struct Health: Encodable {
        var status: String
    }

    var routes: [Route] {
        [
            .open(.get, "/health/live", summary: "Whether the process lives") { _, _ in try .json(Health(status: "live")) },
            .open(.get, "/health/ready", summary: "Whether requests can be served") { _, _ in
                try await check()
                return try .json(Health(status: "ready"))
            },
            .open(.get, "/metrics", summary: "Metrics for Prometheus") { _, _ in
                .text(metrics.text(gauges: try await gauges()), type: "text/plain; version=0.0.4; charset=utf-8")
            },
        ]
    }

    private func check() async throws {
        var faults: [String] = []
        do { try await parts.documents.ready() } catch { faults.append("documents: \(error)") }
        do { try await parts.transport.ready() } catch { faults.append("transport: \(error)") }
        do { try await parts.objects.ready() } catch { faults.append("objects: \(error)") }
        guard faults.isEmpty else { throw CohortError(.unavailable, "not ready: \(faults.joined(separator: "; "))") }
    }

    private func gauges() async throws -> [(name: String, labels: String, value: Int)] {
        let peers = try await parts.documents.peerCounts()
        let sessions = try await parts.documents.sessionCounts()
        var gauges = PeerStatus.allCases.map { status in
            (name: "cohort_peers", labels: "status=\"\(status.rawValue)\"", value: peers[status] ?? 0)
        }
        gauges += [SessionStatus.pending, .running].map { status in
            (name: "cohort_sessions", labels: "status=\"\(status.rawValue)\"", value: sessions[status] ?? 0)
        }
        if let memory = ServerMetrics.residentMemory { gauges.append((name: "process_resident_memory_bytes", labels: "", value: memory)) }
        return gauges
    }
}
