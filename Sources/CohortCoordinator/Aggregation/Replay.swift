package import CohortCore
package import CohortSession
package import CohortSystem
import CohortTraining
import CohortWire
import FoundationEssentials

/// Computes a session's weights again from its receipt and the updates that were kept: with all of them to the same bits, or as they would be without some peers' part.
package struct Replay {
    /// Weights of a round, by the receipt and without the peers that were named.
    package struct Round {
        package let round: Int
        package let parameters: [Float]
        /// nil: no peer was named.
        package let without: [Float]?
        /// The peers whose updates it contains.
        package let peers: [String]
    }

    private let receipt: SessionReceipt
    private let objects: any ObjectStore
    private let executor: ThreadExecutor
    private let outer: OuterOptimizer?
    private let without: Set<String>

    /// - Parameters:
    ///   - objects: an empty store for a round's files.
    ///   - outer: the strategy's optimizer.
    ///   - without: names or ids of peers.
    /// - Throws: ``CohortError`` `invalid` for a peer that never took part, and updates that were not kept.
    package init(
        _ receipt: SessionReceipt, in objects: any ObjectStore, on executor: ThreadExecutor, outer: OuterOptimizer?, without: [String]
    ) throws {
        let all = receipt.rounds.flatMap(\.contributions)
        guard all.allSatisfy({ $0.key != nil }), !all.isEmpty else {
            throw CohortError(.invalid, "the session's updates were not kept: start it with keep_updates")
        }
        for name in without where !all.contains(where: { $0.peerName == name || $0.peerId == name }) {
            let names = Set(all.map(\.peerName)).sorted()
            throw CohortError(
                .invalid, "'\(name.printable(max: 60))' is not a peer of the session: \(names.bounded())")
        }
        self.receipt = receipt
        self.objects = objects
        self.executor = executor
        self.outer = outer
        self.without = Set(all.filter { without.contains($0.peerName) || without.contains($0.peerId) }.map(\.peerId))
    }

    /// - Parameters:
    ///   - fetch: the bytes of a file that the receipt names.
    ///   - body: told each round, in order.
    /// - Throws: ``CohortError`` `invalid` when a file or a round's weights are not what the receipt says.
    package func run(
        fetch: (_ key: String) async throws -> [UInt8], _ body: (Round) async throws -> Void
    ) async throws {
        let reader = Aggregator(objects, on: executor)
        var session = Session(
            id: receipt.sessionId, ownerId: "", createdAt: .init(timeIntervalSince1970: 0), settings: receipt.settings, peers: [],
            upload: nil,
            filename: "")
        session.model = receipt.model
        session.streams = receipt.streams.isEmpty ? nil : receipt.streams
        session.streamPeriods = receipt.streamPeriods
        let layout = session.layout ?? WeightsLayout(receipt.model)
        if let start = receipt.start {
            try await store(try await fetch(start.key), as: start.key, sha256: start.sha256)
            session.weights = start
        }
        var current =
            if let start = receipt.start { layout.parameters(of: try Weights.decode(try await objects.get(start.key), layout)) } else {
                initialParameters(receipt.model, seed: receipt.settings.seed)
            }
        var other = current
        var (slots, state): ([[Float]], OuterState?) = ([], nil)
        for round in receipt.rounds {
            session.round = round.round
            session.peers = round.contributions.map { contribution in
                var peer = SessionPeer(
                    id: contribution.peerId, name: contribution.peerName, engine: "", device: "", registration: 0, speed: 1)
                peer.answer = PeerAnswer(
                    round: round.round,
                    results: DoneResults(loss: nil, accuracy: nil, samples: contribution.samples, epochs: 0, seconds: 0),
                    update: ObjectReference(key: contribution.key ?? "", sha256: contribution.sha256, bytes: 0),
                    answeredAt: session.createdAt)
                return peer
            }
            for contribution in round.contributions {
                let key = contribution.key ?? ""
                try await store(try await fetch(key), as: key, sha256: contribution.sha256)
            }
            if !without.isEmpty {
                let outcome = round.outcome.without(without)
                // A round of theirs alone changes nothing.
                if !outcome.shares.isEmpty {
                    let changed = try await reader.combine(outcome, of: session, outer: outer).parameters
                    var mean = zip(other, zip(changed, current)).map { $0 + ($1.0 - $1.1) }
                    if let outer {
                        state = outer.step(from: other, &mean, slots: &slots, state: state, trained: receipt.model.trainedParameterCount)
                    }
                    other = mean
                }
            }
            let aggregate = try await reader.aggregate(round.outcome, of: session, outer: outer)
            guard aggregate.reference.sha256 == round.weightsSha256 else {
                throw CohortError(
                    .invalid,
                    "round \(round.round + 1) comes to weights of SHA-256 \(aggregate.reference.sha256); the receipt says \(round.weightsSha256)"
                )
            }
            current = aggregate.parameters
            try await body(
                Round(
                    round: round.round, parameters: current, without: without.isEmpty ? nil : other,
                    peers: round.contributions.map(\.peerName)))
            var done = round.contributions.compactMap(\.key) + [session.weights?.key, session.outer?.slots?.key].compactMap { $0 }
            done.removeAll { $0 == aggregate.reference.key || $0 == aggregate.outer?.slots?.key }
            try await objects.delete(done)
            session.weights = aggregate.reference
            session.outer = aggregate.outer
        }
    }

    private func store(_ bytes: [UInt8], as key: String, sha256: String) async throws {
        guard try await objects.put(bytes, key: key).sha256 == sha256.lowercased() else {
            throw CohortError(.invalid, "\(key) is not what the receipt says: its SHA-256 is another")
        }
    }
}
