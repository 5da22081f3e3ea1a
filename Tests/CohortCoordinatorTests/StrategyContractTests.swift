import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import CohortWire
import FoundationEssentials
import InMemory
import StrategyContract
import Testing

@testable import CohortCoordinator

/// What every strategy of the catalogue keeps, by being in it: from answers to the next round's weights.
@Suite struct StrategyContractTests {
    private static let model = ModelSpec(inputs: 5, hidden: [4], outputs: 3, task: .classification)

    private func weights(_ seed: UInt64) -> [Float] { initialParameters(Self.model, seed: seed) }

    @Test(arguments: StrategyCatalogue.builtIn.names, StrategyContract.all.map(\.name)) func `every entry keeps it`(
        name: String, what: String
    )
        async throws
    {
        let contract = try #require(StrategyContract.all.first { $0.name == what })
        try await contract.check(try StrategyCatalogue.builtIn.named(name))
    }

    @Test func `all violations are reported`() async throws {
        let error = await #expect(throws: CohortError.self) { try await StrategyContract.check(Careless()) }
        let message = error?.message ?? ""
        #expect(message.contains("careless: equal updates give that update: four of them give another"), "\(message)")
        #expect(message.contains("not every row is dealt") && !message.contains("one peer's update"), "\(message)")
    }

    /// Weights that do not sum to 1, and rows that no peer trains on.
    private struct Careless: Strategy {
        static let name = "careless"
        static let summary = ""
        func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] {
            peers.map { _ in [RowRange(start: 0, end: trainingRows / 2)] }
        }
        func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome {
            .average(answers.enumerated().map { Share(peerId: $1.peerId, weight: $0 == 0 ? 1 : 0, scale: answers.count == 1 ? 1 : 0.5) })
        }
    }

    @Test func `a server's step that is not finite is reported`() async throws {
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let objects = MemoryObjects()
        var session = Session(
            id: "s", ownerId: "o", createdAt: Date(timeIntervalSince1970: 0), settings: SessionSettings(strategy: "diloco"), peers: [],
            upload: nil, filename: "f.csv")
        session.model = Self.model
        var peer = SessionPeer(id: "a", name: "a", engine: "native", device: "cpu", registration: 1, speed: 1)
        let object = try await objects.put(try Weights.encode(Self.model, weights(7)), key: "updates/s/a.safetensors")
        peer.answer = PeerAnswer(
            round: 0, results: DoneResults(loss: 1, accuracy: nil, samples: 3, epochs: 1, seconds: 1), update: object,
            answeredAt: Date(timeIntervalSince1970: 0))
        session.peers = [peer]
        let outcome = RoundOutcome.average([Share(peerId: "a", weight: 1)])
        do {
            _ = try await Aggregator(objects, on: executor).aggregate(
                outcome, of: session, outer: .momentum(beta: 0.9, learningRate: 1e40, nesterov: true))
            Issue.record("weights that are no numbers were stored")
        } catch let error as Aggregator.Diverged {
            #expect(error.message.contains("in round 1: lower server_lr"))
        }
    }
}
