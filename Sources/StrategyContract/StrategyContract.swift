import CohortCoordinator
import CohortCore
public import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import CohortWire
import FoundationEssentials
import InMemory

/// The contract of every strategy, tried on updates of a small net: from answers to the next round's weights, as the coordinator makes them.
/// A test of a strategy calls ``check(_:)``, or a single part.
public struct StrategyContract: Sendable {
    /// The name in test reports.
    public let name: String
    /// - Throws: ``CohortError`` `invalid` with what does not hold.
    public let check: @Sendable (any Strategy) async throws -> Void

    /// - Throws: ``CohortError`` `invalid` with everything that does not hold, a line each.
    public static func check(_ strategy: any Strategy) async throws {
        var problems: [String] = []
        for each in all {
            do { try await each.check(strategy) } catch { problems.append("\(each.name): \(error)") }
        }
        guard problems.isEmpty else { throw CohortError(.invalid, "\(strategy.name): \(problems.joined(separator: "\n"))") }
    }

    public static let all: [StrategyContract] = [
        StrategyContract(name: "one peer's update is the model") { strategy in
            try expect(try await weights(by: strategy, [("a", drawn(1), 30)]) == drawn(1), "it is another")
        },
        StrategyContract(name: "equal updates give that update") { strategy in
            let result = try await weights(
                by: strategy, [("a", drawn(1), 30), ("b", drawn(1), 7), ("c", drawn(1), 1), ("d", drawn(1), 90)])
            try expect(zip(result, drawn(1)).allSatisfy { abs($0 - $1) < 1e-7 }, "four of them give another")
        },
        StrategyContract(name: "the order of arrival changes no bit") { strategy in
            let updates = [("a", drawn(1), 30), ("b", drawn(2), 7), ("c", drawn(3), 12), ("d", drawn(4), 90), ("e", drawn(5), 3)]
            let first = try await weights(by: strategy, updates)
            try expect(first.allSatisfy { $0.isFinite }, "the weights are no numbers")
            for seed in 1...4 as ClosedRange<UInt64> {
                var shuffled = updates
                var generator = SeededGenerator(seed: seed)
                generator.shuffle(&shuffled)
                try expect(try await weights(by: strategy, shuffled) == first, "\(shuffled.map(\.0)) gives other bits than a to e")
            }
        },
        StrategyContract(name: "changes of nothing leave the weights as they are") { strategy in
            // The weights that a session of seed 0 begins with.
            for count in 1...6 {
                let result = try await weights(by: strategy, (0..<count).map { ("\($0)", drawn(0), 5 * $0 + 1) })
                try expect(zip(result, drawn(0)).allSatisfy { abs($0 - $1) < 1e-7 }, "\(count) such give others")
            }
        },
        StrategyContract(name: "two peers give what lies between them, and one of no rows gives numbers") { strategy in
            let result = try await weights(by: strategy, [("a", drawn(1), 30), ("b", drawn(2), 7)])
            for (index, value) in result.enumerated() {
                let (low, high) = (min(drawn(1)[index], drawn(2)[index]), max(drawn(1)[index], drawn(2)[index]))
                // Clipping takes less than the whole change.
                let start = drawn(0)[index]
                try expect(
                    value >= min(low, start) - 1e-6 && value <= max(high, start) + 1e-6,
                    "parameter \(index) is \(value) of \(low) and \(high)")
            }
            let idle = try await weights(by: strategy, [("a", drawn(1), 30), ("b", drawn(2), 0), ("c", drawn(3), 4)])
            try expect(idle.allSatisfy { $0.isFinite }, "the weights are no numbers with a peer of no rows")
        },
        StrategyContract(name: "answers without samples give numbers") { strategy in
            let result = try await weights(by: strategy, [("a", drawn(1), 0), ("b", drawn(2), 0)])
            try expect(result.allSatisfy { $0.isFinite }, "the weights are no numbers")
        },
        StrategyContract(name: "resuming after each round gives the same bits") { try await resuming($0) },
        StrategyContract(name: "updates in pieces, and a model in slices, give the same bits") { try await pieces($0) },
        StrategyContract(name: "every row is dealt, and never twice in a share") { strategy in
            for peers in [1, 2, 5] {
                let places = (0..<peers).map { number in
                    SessionPeer(
                        id: "\(number)", name: "\(number)", engine: "native", device: "cpu", registration: 1,
                        speed: Double(1 + number * number))
                }
                for round in 0..<3 {
                    let shares = strategy.deal(trainingRows: 37, round: round, peers: places)
                    try expect(shares.count == peers, "\(shares.count) shares are dealt to \(peers) peers")
                    let rows = shares.map { $0.flatMap { Array($0.start..<$0.end) } }
                    let all = Set(0..<37)
                    try expect(
                        rows.allSatisfy { Set($0).count == $0.count && all.isSuperset(of: $0) },
                        "a share has a row twice, or one that is not there")
                    try expect(Set(rows.joined()) == all, "of \(peers) peers in round \(round), not every row is dealt")
                }
            }
        },
    ]

    private static let model = ModelSpec(inputs: 5, hidden: [4], outputs: 3, task: .classification)

    private static func drawn(_ seed: UInt64) -> [Float] { initialParameters(model, seed: seed) }

    private static func expect(_ holds: Bool, _ what: @autoclosure () -> String) throws {
        guard holds else { throw CohortError(.invalid, what()) }
    }

    private static func session(_ strategy: any Strategy, peers: [String]) -> Session {
        var session = Session(
            id: "s", ownerId: "o", createdAt: Date(timeIntervalSince1970: 0),
            settings: SessionSettings(peers: max(1, peers.count), strategy: strategy.name), peers: [], upload: nil, filename: "f.csv")
        session.model = model
        session.peers = peers.map { SessionPeer(id: $0, name: $0, engine: "native", device: "cpu", registration: 1, speed: 1) }
        return session
    }

    /// The weights that come of these updates, given in this order, in a session's first round.
    private static func weights(
        by strategy: any Strategy, _ updates: [(peer: String, weights: [Float], samples: Int)]
    ) async throws -> [Float] {
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let objects = MemoryObjects()
        // The document has them by name, whatever order they answered in.
        let sorted = updates.sorted { $0.peer < $1.peer }
        var session = session(strategy, peers: sorted.map(\.peer))
        for (index, update) in sorted.enumerated() {
            let object = try await objects.put(try Weights.encode(model, update.weights), key: "updates/s/\(update.peer).safetensors")
            session.peers[index].answer = PeerAnswer(
                round: 0,
                results: DoneResults(
                    loss: 1, accuracy: nil, samples: update.samples, epochs: 1, seconds: 1,
                    ownEvaluation: Counts(samples: 10, lossSum: Double(update.samples))),
                update: object, answeredAt: Date(timeIntervalSince1970: 0))
        }
        let outcome = strategy.outcome(
            of: session.peers.map {
                StrategyAnswer(peerId: $0.id, samples: $0.answer?.results.samples ?? 0, ownEvaluation: $0.answer?.results.ownEvaluation)
            }, session.settings)
        return try await Aggregator(objects, on: executor).aggregate(outcome, of: session).parameters
    }

    /// The state of the outer optimizer is in an object, beside that of the peers' optimizers: a coordinator that takes over continues to the same
    /// bits.
    private static func resuming(_ strategy: any Strategy) async throws {
        let (through, session) = try await rounds(strategy, resumes: false)
        let (resumed, other) = try await rounds(strategy, resumes: true)
        try expect(
            through == resumed && session.weights?.sha256 == other.weights?.sha256 && session.outer == other.outer,
            "a coordinator that takes over comes to others")
        let rule = strategy.outcome(of: [StrategyAnswer(peerId: "a", samples: 1)], session.settings).rule
        let remembers = strategy.outerOptimizer(session.settings) != nil || !rule.slots.isEmpty
        try expect(
            (session.outer?.slots != nil) == remembers, "what the server remembers is \(remembers ? "not stored" : "stored for nothing")")
        try expect(through.count == model.parameterCount, "there are \(through.count) parameters")
    }

    /// However bytes come from the store, and however large the model is for the memory.
    private static func pieces(_ strategy: any Strategy) async throws {
        let (whole, session) = try await rounds(strategy, resumes: false)
        let (slices, other) = try await rounds(strategy, resumes: true, maxKept: 0, sliceWidth: 7)
        for chunk in [1, 5, 64] {
            let (pieces, third) = try await rounds(strategy, resumes: true, chunk: chunk, maxKept: 0, sliceWidth: 7)
            try expect(pieces == slices && third.outer?.slots?.sha256 == other.outer?.slots?.sha256, "\(chunk) bytes at a time give others")
        }
        let rule = strategy.outcome(of: [StrategyAnswer(peerId: "a", samples: 1)], session.settings).rule
        // Sums over whole updates are rounded slice by slice.
        let tolerance: Float = rule.combines || strategy.outerOptimizer(session.settings)?.needsSize(nil) == true ? 1e-6 : 0
        try expect(zip(whole, slices).allSatisfy { abs($0 - $1) <= tolerance }, "slices of 7 parameters give others")
    }

    private static func rounds(
        _ strategy: any Strategy, resumes: Bool, chunk: Int = 1 << 20, maxKept: Int = 4 << 20, sliceWidth: Int = 64 << 10
    ) async throws -> ([Float], Session) {
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let objects = MemoryObjects(chunk: chunk)
        func makeReader() -> Aggregator { Aggregator(objects, on: executor, maxKept: maxKept, sliceWidth: sliceWidth) }
        var session = session(strategy, peers: ["a", "b"])
        session.streams = ["exp_avg", "exp_avg_sq"]
        let layout = WeightsLayout(model, streams: ["exp_avg", "exp_avg_sq"])
        var reader = makeReader()
        var parameters: [Float] = []
        for round in 0..<4 {
            session.round = round
            for index in 0..<2 {
                var values = layout.values(drawn(UInt64(10 * round + index)), nil)
                for place in model.parameterCount..<layout.count { values[place] = Float(place % 5 + index) }
                let object = try await objects.put(try Weights.encode(layout, values), key: "updates/s/\(round)-\(index).safetensors")
                session.peers[index].answer = PeerAnswer(
                    round: round, results: DoneResults(loss: 1, accuracy: nil, samples: 3 + index, epochs: 1, seconds: 1), update: object,
                    answeredAt: Date(timeIntervalSince1970: 0))
            }
            let outcome = strategy.outcome(
                of: session.peers.map { StrategyAnswer(peerId: $0.id, samples: $0.answer?.results.samples ?? 0) }, session.settings)
            if resumes { reader = makeReader() }
            let result = try await reader.aggregate(outcome, of: session, outer: strategy.outerOptimizer(session.settings))
            (session.weights, session.outer, parameters) = (result.reference, result.outer, result.parameters)
        }
        return (parameters, session)
    }
}
