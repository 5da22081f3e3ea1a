public import CohortCore
public import CohortSession
import CohortStrategies
import Foundation
import Testing

/// Equal shares and equal weights, whatever a machine's speed.
public struct Uniform: Strategy {
    public static let name = "uniform"
    public static let summary = "Like fedavg, with equal shares and equal weights."

    public init() {}

    public func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
        Sharding.proportional(trainingRows, weights: peers.map { _ in 1 }).map { $0.count > 0 ? [$0] : [] }
    }

    public func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
        .average(answers.map { Share(peerId: $0.peerId, weight: 1 / Double(answers.count)) })
    }
}

/// The strategy that docs/strategies.md shows.
@Suite struct WrittenStrategyTests {
    @Test func `is what the page shows, and deals every row once`() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "docs/strategies.md"), encoding: .utf8)
        let source = try String(contentsOf: URL(filePath: #filePath), encoding: .utf8)
        let shown = try #require(
            page.components(separatedBy: "```swift\npublic import CohortCore\npublic import CohortSession\n\n").last?.components(
                separatedBy: "```"
            ).first)
        #expect(shown.contains("struct Uniform") && source.contains(shown))

        let peers = (0..<3).map {
            SessionPeer(id: "\($0)", name: "\($0)", engine: "native", device: "cpu", registration: 1, speed: Double($0 * 9 + 1))
        }
        let ranges = Uniform().deal(trainingRows: 10, round: 0, peers: peers)
        #expect(ranges.flatMap { $0 }.reduce(0) { $0 + $1.count } == 10)
        #expect(ranges.allSatisfy { 3...4 ~= $0.reduce(0) { $0 + $1.count } })
        let answers = ["a", "b"].map { StrategyAnswer(peerId: $0, samples: $0 == "a" ? 1 : 99) }
        #expect(Uniform().outcome(of: answers, SessionSettings()) == .average(["a", "b"].map { Share(peerId: $0, weight: 0.5) }))
    }
}
