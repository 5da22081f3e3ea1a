import CohortAPI
import CohortCore
import FoundationEssentials
import Testing

@testable import CohortServer

/// deploy/grafana/cohort.json names what `/metrics` has.
@Suite struct GrafanaTests {
    @Test func `every metric of the Grafana dashboard is a metric of the server`() async throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../deploy/grafana/cohort.json").standardized
        let text = try String(contentsOf: path, encoding: .utf8)
        let named = Set(text.matches(of: /(cohort|process)_[a-z_]+/).map { String($0.0) })
        #expect(named.count >= 6, "\(named)")
        try await withServer { world in
            let user = try await world.signup()
            let peer = try await world.register("one", try await world.joinToken(user))
            _ = try await world.call(
                "POST", "/peers/\(peer.peerId)/heartbeat", #"{"registration":\#(peer.registration)}"#, token: peer.credential)
            _ = try await world.start([("peers", "1")], token: user)
            let metrics = try await world.call("GET", "/metrics").body
            for name in named.sorted() { #expect(metrics.contains("\n\(name)"), "\(name) is not in \(metrics)") }
        }
    }
}
