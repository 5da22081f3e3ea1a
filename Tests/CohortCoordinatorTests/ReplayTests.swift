import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import CohortWire
import FoundationEssentials
import InMemory
import Testing

@testable import CohortCoordinator

/// A receipt that is not the truth is found out.
@Suite struct ReplayTests {
    private static let model = ModelSpec(inputs: 2, hidden: [3], outputs: 2, task: .classification)

    /// Of one round of two peers, and the files that it names.
    private func receipt(_ executor: ThreadExecutor) async throws -> (SessionReceipt, [String: [UInt8]]) {
        let objects = MemoryObjects()
        var settings = SessionSettings(peers: 2, rounds: 1, seed: 1)
        settings.keepUpdates = true
        var session = Session(
            id: "s", ownerId: "o", createdAt: Date(timeIntervalSince1970: 0), settings: settings, peers: [], upload: nil, filename: "f.csv")
        session.model = Self.model
        session.dataset = DatasetInfo(
            filename: "f.csv", csvLink: "", object: ObjectReference(key: "k", sha256: "ab", bytes: 1),
            schema: TableSchema(
                hasHeader: true, delimiter: ",",
                columns: [.init(name: "x", kind: .numeric, mean: 0, std: 1), .init(name: "y", kind: .target)], target: "y",
                task: .classification, classes: ["a", "b"], validation: 0.2, splitSeed: 1, trainingRows: 9, validationRows: 3,
                droppedRows: 0),
            schemaObject: ObjectReference(key: "schema", sha256: "", bytes: 1), warnings: [])
        var files: [String: [UInt8]] = [:]
        for (index, name) in ["a", "b"].enumerated() {
            let key = "kept/s/\(name).safetensors"
            files[key] = try Weights.encode(Self.model, initialParameters(Self.model, seed: UInt64(index + 5)))
            var peer = SessionPeer(id: name, name: name, engine: "", device: "", registration: 1, speed: 1)
            peer.answer = PeerAnswer(
                round: 0, results: DoneResults(loss: 1, accuracy: nil, samples: 3, epochs: 1, seconds: 1),
                update: try await objects.put(files[key] ?? [], key: key), answeredAt: session.createdAt)
            session.peers.append(peer)
        }
        let outcome = RoundOutcome.average(["a", "b"].map { Share(peerId: $0, weight: 0.5) })
        let aggregate = try await Aggregator(objects, on: executor).aggregate(outcome, of: session)
        var summary = RoundSummary(round: 0, seconds: 1, training: nil, answered: ["a", "b"], dropped: [:])
        (summary.outcome, summary.contributions) = (outcome, aggregate.contributions)
        summary.weightsSha256 = aggregate.reference.sha256
        return (try #require(SessionReceipt(session, rounds: [summary])), files)
    }

    @Test func `weights, files and peers that are not as the receipt says are refused`() async throws {
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let (receipt, files) = try await receipt(executor)
        func replay(_ receipt: SessionReceipt, _ files: [String: [UInt8]], without: [String] = []) async -> String {
            do {
                var rounds = 0
                try await Replay(receipt, in: MemoryObjects(), on: executor, outer: nil, without: without)
                    .run(fetch: { files[$0] ?? [] }) { _ in rounds += 1 }
                return "\(rounds) rounds"
            } catch let error as CohortError { return error.message } catch { return "\(error)" }
        }
        #expect(await replay(receipt, files) == "1 rounds")
        #expect(await replay(receipt, files, without: ["b"]) == "1 rounds")
        #expect(await replay(receipt, files, without: ["c"]).contains("'c' is not a peer of the session: a, b"))
        var other = receipt
        other.rounds[0].weightsSha256 = "00"
        #expect(await replay(other, files).contains("the receipt says 00"))
        other = receipt
        other.rounds[0].outcome.shares[0].weight = 0.4
        #expect(await replay(other, files).hasPrefix("round 1 comes to weights of SHA-256"))
        var changed = files
        changed["kept/s/b.safetensors"] = files["kept/s/a.safetensors"]
        #expect(await replay(receipt, changed) == "kept/s/b.safetensors is not what the receipt says: its SHA-256 is another")
        other = receipt
        other.rounds[0].contributions[0].key = nil
        #expect(await replay(other, files).contains("the session's updates were not kept"))
    }
}
