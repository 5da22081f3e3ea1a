import CohortCore
import CohortStrategies
import CohortSystem
import CohortTraining
import FoundationEssentials
import InMemory
import Testing

@testable import CohortCoordinator

/// What every strategy of the catalogue keeps, by being in it: from answers to the next round's weights.
@Suite struct StrategyContractTests {
    private static let model = ModelSpec(inputs: 5, hidden: [4], outputs: 3, task: .classification)

    /// The weights that come of these updates, given in this order.
    private func aggregate(_ name: String, _ updates: [(peer: String, weights: [Float], samples: Int)]) async throws -> [Float] {
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let objects = MemoryObjects()
        var session = Session(
            id: "s", ownerId: "o", createdAt: Date(timeIntervalSince1970: 0),
            settings: SessionSettings(peers: updates.count, strategy: name),
            peers: [], upload: nil, filename: "f.csv")
        session.model = Self.model
        // The document has them by name, whatever order they answered in.
        for update in updates.sorted(by: { $0.peer < $1.peer }) {
            var peer = SessionPeer(id: update.peer, name: update.peer, engine: "native", device: "cpu", registration: 1, speed: 1)
            let object = try await objects.put(try Weights.encode(Self.model, update.weights), key: "updates/s/\(update.peer).safetensors")
            let evaluation = Counts(samples: 10, lossSum: Double(update.samples))
            peer.answer = PeerAnswer(
                round: 0,
                results: DoneResults(
                    loss: 1, accuracy: nil, samples: update.samples, epochs: 1, seconds: 1, ownEvaluation: evaluation),
                update: object, answeredAt: Date(timeIntervalSince1970: 0))
            session.peers.append(peer)
        }
        let strategy = try StrategyCatalogue.named(name)
        let outcome = strategy.outcome(
            of: session.peers.map {
                StrategyAnswer(peerId: $0.id, samples: $0.answer?.results.samples ?? 0, ownEvaluation: $0.answer?.results.ownEvaluation)
            }, task: .classification)
        return try await UpdateReader(objects, on: executor).aggregate(outcome, of: session).parameters
    }

    private func weights(_ seed: UInt64) -> [Float] { initialParameters(Self.model, seed: seed) }

    @Test(arguments: StrategyCatalogue.names) func `one peer's update is the model`(name: String) async throws {
        #expect(try await aggregate(name, [("a", weights(1), 30)]) == weights(1))
    }

    @Test(arguments: StrategyCatalogue.names) func `equal updates give that update`(name: String) async throws {
        let result = try await aggregate(name, [("a", weights(1), 30), ("b", weights(1), 7), ("c", weights(1), 1), ("d", weights(1), 90)])
        #expect(zip(result, weights(1)).allSatisfy { abs($0 - $1) < 1e-7 })
    }

    @Test(arguments: StrategyCatalogue.names) func `the order of arrival changes no bit`(name: String) async throws {
        let updates = [("a", weights(1), 30), ("b", weights(2), 7), ("c", weights(3), 12), ("d", weights(4), 90), ("e", weights(5), 3)]
        let first = try await aggregate(name, updates)
        #expect(first.allSatisfy { $0.isFinite })
        for seed in 1...4 as ClosedRange<UInt64> {
            var shuffled = updates
            var generator = SeededGenerator(seed: seed)
            generator.shuffle(&shuffled)
            #expect(try await aggregate(name, shuffled) == first)
        }
    }

    /// Nobody trained on a row: no division by nothing.
    @Test(arguments: StrategyCatalogue.names) func `answers without samples give numbers`(name: String) async throws {
        let result = try await aggregate(name, [("a", weights(1), 0), ("b", weights(2), 0)])
        #expect(result.allSatisfy { $0.isFinite })
    }
}
