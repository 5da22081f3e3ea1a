import CohortCore
import CohortSession
import FoundationEssentials

/// The curves of a session's page: each machine's epochs, thinned, and when each round closed.
struct SessionCurves: Encodable {
    struct Curve: Encodable {
        var name: String
        var round: [Int]
        var epoch: [Int]
        /// Seconds since the start.
        var time: [Float?]
        var loss: [Float?]
        /// Accuracy, or R² of a quantity.
        var score: [Float?]
    }

    struct Rounds: Encodable {
        var round: [Int]
        /// Seconds since the start.
        var time: [Float?]
    }

    var peers: [Curve]
    var rounds: Rounds

    /// Points that a curve is drawn with, and all curves of many machines.
    private static let (most, mostOfAll) = (400, 4_000)

    /// Reads the curves of a session.
    init(of session: Session, documents: any Documents) async throws {
        let most = max(50, min(Self.most, Self.mostOfAll / max(1, session.peers.count)))
        let points = try await documents.metrics(sessionId: session.id, maxPerPeer: most)
        let isRegression = (session.dataset?.task ?? session.settings.task) == .regression
        func seconds(_ point: MetricPoint) -> Float? { session.startedAt.map { Float(point.time.timeIntervalSince($0)) } }
        let byPeer = Dictionary(grouping: points.filter { $0.peerId != nil }) { $0.peerName ?? "" }
        peers = byPeer.sorted { $0.key < $1.key }.map { name, points in
            Curve(
                name: name, round: points.map(\.round), epoch: points.map(\.epoch), time: points.map(seconds),
                loss: points.map { Self.short($0.loss) }, score: points.map { Self.short(isRegression ? $0.r2 : $0.accuracy) })
        }
        let own = points.filter { $0.peerId == nil }
        rounds = Rounds(round: own.map(\.round), time: own.map(seconds))
    }

    /// A number with the digits that a curve needs.
    private static func short(_ value: Double?) -> Float? { value.map { Float($0) }.flatMap { $0.isFinite ? $0 : nil } }
}
