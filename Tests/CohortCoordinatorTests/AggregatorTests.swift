import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import CohortWire
import DirectoryObjects
import FoundationEssentials
import Testing

@testable import CohortCoordinator

/// Updates as peers upload them, in a real object store.
@Suite struct AggregatorTests {
    private static let model = ModelSpec(inputs: 2, hidden: [3], outputs: 2, task: .classification)

    private static func session(_ names: [String]) -> Session {
        var session = Session(
            id: "s", ownerId: "o", createdAt: Date(), settings: SessionSettings(peers: names.count, rounds: 2, seed: 1),
            peers: names.map { name in
                SessionPeer(
                    Peer(
                        id: name, name: name, ownerId: "o", tokenId: "t",
                        capabilities: PeerCapabilities(
                            cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1, platform: "", version: ""),
                        registeredAt: Date(), lastSeen: Date()))
            }, upload: nil, filename: "f.csv")
        session.generation = 1
        session.status = .running
        session.model = model
        return session
    }

    private static func done(_ peer: String, update: ObjectReference?) -> DoneEvent {
        DoneEvent(
            sessionId: "s", peerId: peer, generation: 1, round: 0,
            results: DoneResults(loss: 1, accuracy: 0, samples: 10, epochs: 1, seconds: 1), update: update)
    }

    private static func key(_ peer: String) -> String { "updates/s/g1-r0-a0-\(peer).safetensors" }

    private func withObjects(_ body: (DirectoryObjects, ThreadExecutor) async throws -> Void) async throws {
        let executor = try ThreadExecutor()
        defer { executor.end() }
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-updates-\(newIdentifier())"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await body(DirectoryObjects(path: path, secret: [UInt8](repeating: 1, count: 32)), executor)
    }

    @Test func `a whole update is accepted, with the length of its step`() async throws {
        try await withObjects { objects, executor in
            let reader = Aggregator(objects, on: executor)
            let session = Self.session(["a"])
            var parameters = initialParameters(Self.model, seed: 1)
            parameters[0] += 3
            parameters[5] -= 4
            let update = try await objects.put(try Weights.encode(Self.model, parameters), key: Self.key("a"))
            let norm = try await reader.inspect(Self.done("a", update: update), attempt: 0, of: session)
            #expect(abs(try #require(norm).norm - 5) < 1e-4)
        }
    }

    @Test func `NaN, another shape, another hash, a foreign key, a cut file, no upload at all are refused with the reason`() async throws {
        try await withObjects { objects, executor in
            let reader = Aggregator(objects, on: executor)
            let session = Self.session(["a", "b"])
            let good = initialParameters(Self.model, seed: 1)
            func refusal(_ bytes: [UInt8]?, change: (inout ObjectReference) -> Void = { _ in }) async throws -> String {
                var update = ObjectReference(key: Self.key("a"), sha256: "00", bytes: 1)
                if let bytes { update = try await objects.put(bytes, key: Self.key("a")) } else { try await objects.delete(Self.key("a")) }
                change(&update)
                do {
                    _ = try await reader.inspect(Self.done("a", update: update), attempt: 0, of: session)
                    return "accepted"
                } catch let error as CohortError {
                    return error.message
                }
            }
            var nan = good
            nan[4] = .nan
            let notNumbers = try await refusal(try Weights.encode(Self.model, nan))
            #expect(notNumbers.contains("nan at parameter 4"))
            let other = ModelSpec(inputs: 3, hidden: [3], outputs: 2, task: .classification)
            let otherShape = try await refusal(try Weights.encode(other, initialParameters(other, seed: 1)))
            #expect(otherShape.contains("'0.weight' of shape [3, 3]"))
            #expect(
                try await refusal(Weights.encode(Self.model, good)) { $0.sha256 = String(repeating: "0", count: 64) }.contains("SHA-256"))
            #expect(try await refusal(Weights.encode(Self.model, good)) { $0.key = Self.key("b") }.contains("must be"))
            let cut = Array(try Weights.encode(Self.model, good).dropLast(4))
            #expect(try await refusal(cut).contains("end early"))
            #expect(try await refusal(Array("not weights at all".utf8)) != "accepted")
            #expect(try await refusal(nil) != "accepted")
        }
    }

    @Test func `an update that comes in the message is looked at alike, needs no object, and outlives the coordinator`() async throws {
        try await withObjects { objects, executor in
            let reader = Aggregator(objects, on: executor)
            var session = Self.session(["a"])
            let parameters = initialParameters(Self.model, seed: 9)
            let bytes = try Weights.encode(Self.model, parameters)
            let sha256 = try await objects.put(bytes, key: "elsewhere").sha256
            var done = Self.done("a", update: ObjectReference(key: Self.key("a"), sha256: sha256, bytes: bytes.count))
            done.updateData = Data(bytes)
            #expect(try await reader.inspect(done, attempt: 0, of: session) != nil)
            #expect(try await objects.head(Self.key("a")) == nil)

            let answer = PeerAnswer(round: 0, results: done.results, update: done.update, answeredAt: Date())
            session.peers[0].answer = answer
            let first = try await reader.aggregate(.average([Share(peerId: "a", weight: 1)]), of: session).reference
            #expect(try Weights.decode(try await objects.get(first.key), spec: Self.model) == parameters)

            let successor = Aggregator(objects, on: executor)
            try await successor.restore(
                [RecordedAnswer(peerId: "a", generation: 1, answer: answer, updateData: done.updateData)], of: session)
            #expect(try await successor.aggregate(.average([Share(peerId: "a", weight: 1)]), of: session).reference.sha256 == first.sha256)

            var nan = parameters
            nan[0] = .infinity
            for wrong in [Array(bytes.dropLast(4)), try Weights.encode(Self.model, nan), [UInt8](repeating: 0, count: 19_000), []] {
                done.updateData = Data(wrong)
                await #expect(throws: CohortError.self) { _ = try await reader.inspect(done, attempt: 0, of: session) }
            }
        }
    }

    @Test(arguments: [UpdateCompression.fp32, .fp16, .bf16, .int8]) func `a change counts as the weights that it leads to`(
        compression: UpdateCompression
    ) async throws {
        try await withObjects { objects, executor in
            var session = Self.session(["a", "b", "c"])
            session.streams = ["exp_avg", "exp_avg_sq"]
            let layout = try #require(session.layout)
            let start = initialParameters(Self.model, seed: 40)
            session.weights = try await objects.put(
                try Weights.encode(layout, layout.values(start, nil)), key: "checkpoints/s/start.safetensors")
            var read: [[Float]] = []
            let reader = Aggregator(objects, on: executor)
            var recorded: [RecordedAnswer] = []
            for (index, name) in ["a", "b", "c"].enumerated() {
                let weights = initialParameters(Self.model, seed: UInt64(index))
                var rest: [Float] = []
                let values = weights + weights.map { $0 / 10 } + weights.map { $0 * $0 }
                // One of them does not compress.
                let bytes = try UpdateFile.encode(
                    layout, values: values, start: start, compression: index == 2 ? .none : compression, rest: &rest)
                read.append(try UpdateFile.decode(bytes, layout, start: start))
                // One comes in the message, the others by the store.
                var done = Self.done(name, update: try await objects.put(bytes, key: index == 0 ? "elsewhere" : Self.key(name)))
                done.update?.key = Self.key(name)
                if index == 0 { done.updateData = Data(bytes) }
                let norm = try #require(try await reader.inspect(done, attempt: 0, of: session)).norm
                let expected = zip(read[index], start).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
                #expect(abs(norm - expected) < 1e-5)
                let answer = PeerAnswer(round: 0, results: done.results, update: done.update, answeredAt: Date())
                session.peers[index].answer = answer
                recorded.append(RecordedAnswer(peerId: name, generation: 1, answer: answer, updateData: done.updateData))
            }
            let outcome = RoundOutcome.average(["a", "b", "c"].map { Share(peerId: $0, weight: 1 / 3) })
            let aggregate = try await reader.aggregate(outcome, of: session)
            let values = try Weights.decode(try await objects.get(aggregate.reference.key), layout)
            for index in values.indices {
                let mean = read.reduce(0) { $0 + Double($1[index]) } / 3
                #expect(abs(Double(values[index]) - mean) < 1e-6)
            }
            // A coordinator that takes over reads the same, from the message's record and the store.
            let successor = Aggregator(objects, on: executor)
            try await successor.restore(recorded, of: session)
            #expect(try await successor.aggregate(outcome, of: session).reference.sha256 == aggregate.reference.sha256)
        }
    }

    @Test func `the mean is the same bits whatever order the answers came in`() async throws {
        try await withObjects { objects, executor in
            let reader = Aggregator(objects, on: executor)
            var session = Self.session(["a", "b", "c"])
            for (index, seed) in [(2, 7), (0, 5), (1, 6)] as [(Int, UInt64)] {
                let name = session.peers[index].id
                let update = try await objects.put(
                    try Weights.encode(Self.model, initialParameters(Self.model, seed: seed)), key: Self.key(name))
                session.peers[index].answer = PeerAnswer(
                    round: 0, results: Self.done(name, update: nil).results, update: update, answeredAt: Date())
            }
            let outcome = RoundOutcome.average([("a", 0.25), ("b", 0.25), ("c", 0.5)].map { Share(peerId: $0.0, weight: $0.1) })
            let reference = try await reader.aggregate(outcome, of: session).reference
            let mean = try Weights.decode(try await objects.get(reference.key), spec: Self.model)
            let parts = [5, 6, 7].map { initialParameters(Self.model, seed: $0) }
            for index in mean.indices {
                let expected = 0.25 * Double(parts[0][index]) + 0.25 * Double(parts[1][index]) + 0.5 * Double(parts[2][index])
                #expect(abs(Double(mean[index]) - expected) < 1e-6)
            }
            #expect(try await reader.aggregate(outcome, of: session).reference.sha256 == reference.sha256)
            #expect(
                try await reader.aggregate(.select(peerId: "b"), of: session).reference.sha256
                    == session.peers[1].answer?.update?.sha256)
        }
    }

    /// More parameters than a chunk of the store holds; one update is still in memory from its inspection.
    @Test(arguments: [1, 2, 3, 5, 8]) func `the median is each parameter's own, in any order, and one liar does not move it`(peers: Int)
        async throws
    {
        try await withObjects { objects, executor in
            let model = ModelSpec(inputs: 700, hidden: [600], outputs: 2, task: .classification)
            let names = (0..<peers).map { "p\($0)" }
            var session = Self.session(names)
            session.model = model
            let parts = (0..<peers).map { peer in
                initialParameters(model, seed: UInt64(peer + 3)).map { peers > 2 && peer == 1 ? $0 * -1e6 : $0 }
            }
            for (index, name) in names.enumerated() {
                let update = try await objects.put(try Weights.encode(model, parts[index]), key: Self.key(name))
                session.peers[index].answer = PeerAnswer(
                    round: 0, results: Self.done(name, update: nil).results, update: update, answeredAt: Date())
            }
            let shares = names.map { Share(peerId: $0, weight: 1) }
            let reader = Aggregator(objects, on: executor)
            let reference = try await reader.aggregate(RoundOutcome(.median, shares), of: session).reference
            let median = try Weights.decode(try await objects.get(reference.key), spec: model)
            let wrong = stride(from: 0, to: model.parameterCount, by: 97).filter { index in
                let sorted = parts.map { Double($0[index]) }.sorted()
                let expected = peers % 2 == 1 ? sorted[peers / 2] : (sorted[peers / 2 - 1] + sorted[peers / 2]) / 2
                return median[index] != Float(expected) || peers > 2 && abs(median[index]) >= 1
            }
            #expect(wrong.isEmpty, "parameters \(wrong.prefix(10))")
            let again = try await Aggregator(objects, on: executor).aggregate(RoundOutcome(.median, shares.reversed()), of: session)
            #expect(again.reference.sha256 == reference.sha256)
            // Of a shortened one only a part of its step counts.
            let alone = try await reader.aggregate(RoundOutcome(.median, [Share(peerId: "p0", weight: 1, scale: 0.5)]), of: session)
                .reference
            let half = try Weights.decode(try await objects.get(alone.key), spec: model)
            #expect(half.count == model.parameterCount && half != parts[0])
        }
    }

    /// More than is kept in memory: the round's weights are read along, and the new ones written a piece at a time.
    @Test(arguments: [
        AggregationRule.mean, .median, .trimmedMean(1), .krum(malicious: 1, keep: 1), .krum(malicious: 1, keep: 4), .geometricMedian,
        .centeredClipping,
    ]) func `a large model's updates become one as a small one's do`(rule: AggregationRule) async throws {
        try await withObjects { objects, executor in
            // Three slices.
            let model = ModelSpec(inputs: 405, hidden: [403], outputs: 3, task: .classification)
            let count = model.parameterCount
            let names = (0..<5).map { "p\($0)" }
            var session = Self.session(names)
            session.model = model
            // Cheap to draw, and unlike in each.
            func drawn(_ seed: Int) -> [Float] {
                [Float](unsafeUninitializedCapacity: count) { values, initialized in
                    var state = UInt32(truncatingIfNeeded: seed &* 2_654_435_761 | 1)
                    for index in 0..<count {
                        state = state &* 1_664_525 &+ 1_013_904_223
                        values[index] = Float(state >> 8) * 0x1p-24 - 0.5
                    }
                    initialized = count
                }
            }
            let start = drawn(100)
            session.weights = try await objects.put(try Weights.encode(model, start), key: "checkpoints/s/start.safetensors")
            for (index, name) in names.enumerated() {
                let update = try await objects.put(try Weights.encode(model, drawn(index)), key: Self.key(name))
                session.peers[index].answer = PeerAnswer(
                    round: 0, results: Self.done(name, update: nil).results, update: update, answeredAt: Date())
            }
            let outcome = RoundOutcome(rule, names.map { Share(peerId: $0, weight: 0.2) })
            let aggregate = try await Aggregator(objects, on: executor, maxKept: 1 << 10).aggregate(outcome, of: session)
            let stored = try Weights.decode(try await objects.get(aggregate.reference.key), spec: model)
            #expect(stored == aggregate.parameters)
            // The same numbers, a model of a few thousand at a time, through the path of small ones.
            let updates = (0..<5).map { drawn($0) }
            let weights = aggregate.contributions.map { $0.weight ?? .nan }
            for index in stride(from: 0, to: count, by: 397) {
                let own = updates.map { Double($0[index]) }
                let expected: Double =
                    switch rule {
                    case .median: own.sorted()[2]
                    case .trimmedMean: own.sorted()[1...3].reduce(0, +) / 3
                    default: Double(start[index]) + zip(own, weights).reduce(0) { $0 + $1.1 * ($1.0 - Double(start[index])) }
                    }
                #expect(abs(Double(stored[index]) - expected) < 1e-6)
            }
            let cosines = aggregate.contributions.compactMap(\.cosine)
            #expect(aggregate.contributions.map(\.peerId) == names && aggregate.contributions.allSatisfy { $0.norm ?? 0 > 100 })
            // Each differs from the start's own numbers alone, as all do.
            #expect(cosines.count == (rule == .krum(malicious: 1, keep: 1) ? 4 : 5) && cosines.allSatisfy { 0.3...1 ~= $0 }, "\(cosines)")
            switch rule {
            case .krum(_, let keep):
                #expect(weights.filter { $0 == 1 / Double(keep) }.count == keep && weights.filter { $0 == 0 }.count == 5 - keep)
            case .mean, .geometricMedian: #expect(abs(weights.reduce(0, +) - 1) < 1e-9)
            case .centeredClipping: #expect(weights.reduce(0, +) < 1 && aggregate.outer?.slots != nil)
            case .median, .trimmedMean: #expect(weights.allSatisfy { $0.isNaN })
            }
        }
    }

    /// What the server remembers of a large model is read and written by slices: the next round goes on from it as from one that is in memory.
    @Test(arguments: [
        OuterOptimizer.adaptive(.adam, beta1: 0.9, beta2: 0.99, learningRate: nil, tau: nil),
        .momentum(beta: 0.9, learningRate: 0.7, nesterov: true), nil,
    ]) func `what the server remembers of a large model`(outer: OuterOptimizer?) async throws {
        try await withObjects { objects, executor in
            // Three slices.
            let model = ModelSpec(inputs: 405, hidden: [403], outputs: 3, task: .classification)
            let count = model.parameterCount
            func reader() -> Aggregator { Aggregator(objects, on: executor, maxKept: 1 << 10) }
            var session = Self.session(["a", "b", "c"])
            (session.model, session.settings.rounds) = (model, 9)
            func drawn(_ seed: Int) -> [Float] { (0..<count).map { Float(($0 &+ seed &* 7919) % 1013) / 1013 - 0.5 } }
            var (start, slots, state) = (drawn(0), [[Float]](), OuterState?.none)
            session.weights = try await objects.put(try Weights.encode(model, start), key: "checkpoints/s/start.safetensors")
            var center: [Float] = []
            let rule: AggregationRule = outer == nil ? .centeredClipping : .mean
            for round in 0..<3 {
                session.round = round
                let updates = (1...3).map { peer in zip(start, drawn(10 * round + peer)).map { $0 + Float(peer) * $1 } }
                for (index, values) in updates.enumerated() {
                    let update = try await objects.put(
                        try Weights.encode(model, values), key: "updates/s/g1-r\(round)-a0-\(index).safetensors")
                    session.peers[index].answer = PeerAnswer(
                        round: round, results: Self.done("", update: nil).results, update: update, answeredAt: Date())
                }
                let outcome = RoundOutcome(rule, session.peers.map { Share(peerId: $0.id, weight: 1 / 3) })
                // Another process each round.
                let made = try await reader().aggregate(outcome, of: session, outer: outer)
                var mean = (0..<count).map { index in
                    Float((Double(updates[0][index]) + Double(updates[1][index]) + Double(updates[2][index])) / 3)
                }
                if let outer {
                    state = outer.step(from: start, &mean, slots: &slots, state: state)
                    #expect(abs((made.outer?.learningRate ?? 0) - (state?.learningRate ?? 1)) < 1e-6)
                } else {
                    let weights = made.contributions.map { $0.weight ?? .nan }
                    let rest = 1 - weights.reduce(0, +)
                    #expect(rest > 0.01)
                    for index in 0..<count {
                        let base = Double(start[index])
                        let own = zip(updates, weights).reduce(0) { $0 + $1.1 * (Double($1.0[index]) - base) }
                        mean[index] = Float(base + own + (round == 0 ? 0 : rest * Double(center[index])))
                    }
                    center = zip(mean, start).map { $0 - $1 }
                }
                let farthest = zip(made.parameters, mean).map { abs($0 - $1) }.max() ?? .infinity
                #expect(farthest < 1e-5, "round \(round)")
                (start, session.weights, session.outer) = (made.parameters, made.reference, made.outer)
            }
            // A file that is not what was stored is not gone on from.
            let slotsKey = try #require(session.outer?.slots?.key)
            var bytes = try await objects.get(slotsKey)
            bytes[bytes.count - 1] ^= 1
            _ = try await objects.put(bytes, key: slotsKey)
            session.round = 2
            let outcome = RoundOutcome(rule, session.peers.map { Share(peerId: $0.id, weight: 1 / 3) })
            let error = await #expect(throws: CohortError.self) {
                _ = try await reader().aggregate(outcome, of: session, outer: outer)
            }
            #expect(error?.message.contains("is not what was stored") == true)
        }
    }

    /// Moments that are averaged in some rounds alone: updates have them and the round's weights have not, or the other way round.
    @Test(arguments: [AggregationRule.mean, .median, .geometricMedian], [false, true])
    func `streams of one round are not those of the next`(
        rule: AggregationRule, isLarge: Bool
    ) async throws {
        try await withObjects { objects, executor in
            let model = isLarge ? ModelSpec(inputs: 405, hidden: [403], outputs: 3, task: .classification) : Self.model
            let count = model.parameterCount
            var session = Self.session(["a", "b", "c"])
            (session.model, session.settings.rounds) = (model, 9)
            (session.streams, session.streamPeriods) = (["exp_avg", "exp_avg_sq"], [3, 6])
            func flat(_ values: Float...) -> [Float] { values.flatMap { [Float](repeating: $0, count: count) } }
            session.weights = try await objects.put(try Weights.encode(model, flat(1)), key: "checkpoints/s/start.safetensors")
            func aggregate(round: Int, _ updates: [[Float]], scale: Double) async throws -> [Float] {
                session.round = round
                let layout = try #require(session.updateLayout)
                for (index, values) in updates.enumerated() {
                    let update = try await objects.put(
                        try Weights.encode(layout, values), key: "updates/s/g1-r\(round)-a0-\(index).safetensors")
                    session.peers[index].answer = PeerAnswer(
                        round: round, results: Self.done("", update: nil).results, update: update, answeredAt: Date())
                }
                let shares = session.peers.map { Share(peerId: $0.id, weight: 1 / 3, scale: $0.id == "c" ? scale : 1) }
                // Another process, which read nothing before: of a large model the weights are read along.
                let reader = Aggregator(objects, on: executor, maxKept: 1 << 10)
                let made = try await reader.aggregate(RoundOutcome(rule, shares), of: session)
                session.weights = made.reference
                let values = try Weights.decode(try await objects.get(made.reference.key), layout)
                #expect(layout.parameters(of: values) == made.parameters)
                return values
            }
            func near(_ values: [Float], _ expected: [Float], tolerance: Float = 1e-5) -> Bool {
                values.count == expected.count && zip(values, expected).allSatisfy { abs($0 - $1) <= tolerance }
            }
            // An update that is shortened counts less in what is remembered as well; nothing of zeros is mixed in.
            let sixth = try await aggregate(
                round: 5, [flat(2, 10, 100), flat(2, 10, 100), flat(3, 10, 100)], scale: 0.5)
            #expect(near(sixth, flat(rule == .mean ? 2 : 2, 10, 100), tolerance: 1e-4))
            // Behind these weights are streams that no update has now.
            let seventh = try await aggregate(round: 6, [flat(4), flat(5), flat(6)], scale: 1)
            #expect(near(seventh, flat(5), tolerance: rule == .geometricMedian ? 1e-2 : 1e-5))
            let third = try await aggregate(round: 2, [flat(5, 1), flat(5, 2), flat(5, 3)], scale: 1)
            #expect(near(Array(third.prefix(count)), flat(5), tolerance: 1e-4))
            #expect(near(Array(third.suffix(count)), flat(2), tolerance: 1e-2))
        }
    }

    /// A wait for bytes ends when it is cancelled, and is not taken for their end.
    @Test(arguments: [0, 2]) func `a read that is cancelled is no end of the bytes`(chunks: Int) async throws {
        let (stream, source) = AsyncThrowingStream.makeStream(of: [UInt8].self, throwing: (any Error).self)
        for number in 0..<chunks { source.yield([UInt8(number)]) }
        let feed = ChunkFeed(stream)
        for number in 0..<chunks { #expect(try await feed.next() == [UInt8(number)]) }
        let reading = Task { try await feed.next() }
        reading.cancel()
        await #expect(throws: CancellationError.self) { _ = try await reading.value }
    }

    @Test func `a shortened update moves the mean by that much less`() async throws {
        try await withObjects { objects, executor in
            let reader = Aggregator(objects, on: executor)
            var session = Self.session(["a"])
            let start = initialParameters(Self.model, seed: 1)
            let update = try await objects.put(try Weights.encode(Self.model, start.map { $0 + 8 }), key: Self.key("a"))
            session.peers[0].answer = PeerAnswer(
                round: 0, results: Self.done("a", update: nil).results, update: update, answeredAt: Date())
            let outcome = RoundOutcome.average([Share(peerId: "a", weight: 1, scale: 0.25)])
            let mean = try Weights.decode(
                try await objects.get(try await reader.aggregate(outcome, of: session).reference.key), spec: Self.model)
            #expect(zip(mean, start).allSatisfy { abs($0 - $1 - 2) < 1e-5 })
        }
    }

    /// Accepted good bytes, then other ones under the same link, as large updates and those before a restart are read twice.
    @Test(arguments: ["select", "mean", "median"]) func `an update that changed after it was accepted never reaches the model`(how: String)
        async throws
    {
        try await withObjects { objects, executor in
            var session = Self.session(["a", "b"])
            for index in session.peers.indices {
                let name = session.peers[index].id
                let update = try await objects.put(
                    try Weights.encode(Self.model, initialParameters(Self.model, seed: 5)), key: Self.key(name))
                session.peers[index].answer = PeerAnswer(
                    round: 0, results: Self.done(name, update: nil).results, update: update, answeredAt: Date())
            }
            let outcome: RoundOutcome =
                how == "select"
                ? .select(peerId: "b")
                : how == "mean"
                    ? .average(["a", "b"].map { Share(peerId: $0, weight: 0.5) })
                    : RoundOutcome(.median, ["a", "b"].map { Share(peerId: $0, weight: 0.5) })
            var swapped = initialParameters(Self.model, seed: 5)
            swapped[0] = .nan
            for bytes in [try Weights.encode(Self.model, swapped), Array("no weights".utf8), nil] {
                if let bytes { _ = try await objects.put(bytes, key: Self.key("b")) } else { try await objects.delete(Self.key("b")) }
                // A coordinator that has not read it itself: it was restarted since.
                let reader = Aggregator(objects, on: executor)
                let changed = await #expect(throws: Aggregator.Changed.self) { try await reader.aggregate(outcome, of: session) }
                #expect(changed?.peerId == "b" && changed?.reason.contains("not what was accepted") == true)
            }
        }
    }

    @Test(arguments: ["fedavgm", "fedadam", "fedyogi", "diloco", "centered_clipping", "krum"])
    func `a module's statistics are the mean of the peers', whatever the server's step and the slices are`(name: String) async throws {
        let strategy = try StrategyCatalogue.builtIn.named(name)
        let module = ModuleSpec(
            sha256: String(repeating: "0", count: 64), inputShape: [],
            tensors: [TensorSpec(name: "fc.weight", shape: [5]), TensorSpec(name: "bn.running_var", shape: [3])], trained: 1)
        for sliceWidth in [2, 64 << 10] {
            try await withObjects { objects, executor in
                let names = ["a", "b", "c", "d", "e"]
                var session = Self.session(names)
                session.settings.strategy = name
                session.settings.rounds = 9
                session.model = ModelSpec(inputs: 2, hidden: [], outputs: 2, task: .classification, module: module)
                let layout = WeightsLayout(try #require(session.model))
                // What the module was saved with.
                session.weights = try await objects.put(try Weights.encode(layout, [0, 0, 0, 0, 0, 1, 1, 1]), key: "start")
                for round in 0..<6 {
                    session.round = round
                    for (index, peer) in names.enumerated() {
                        // The variances fall from 1 to next to nothing.
                        let variance = Float(index == 4 ? 3e-4 : 4e-4)
                        let values: [Float] = [1, 2, 3, 4, Float(index + round)] + [variance, variance, variance]
                        let update = try await objects.put(try Weights.encode(layout, values), key: "u-\(round)-\(peer)")
                        session.peers[index].answer = PeerAnswer(
                            round: round, results: DoneResults(loss: 1, accuracy: 0, samples: 10, epochs: 1, seconds: 1), update: update,
                            answeredAt: Date())
                    }
                    let outcome = strategy.outcome(
                        of: names.map { StrategyAnswer(peerId: $0, samples: 10, steps: 1) }, session.settings)
                    let reader = Aggregator(objects, on: executor, maxKept: sliceWidth == 2 ? 0 : 1 << 20, sliceWidth: sliceWidth)
                    let made = try await reader.aggregate(outcome, of: session, outer: strategy.outerOptimizer(session.settings))
                    #expect(
                        made.parameters[5...].allSatisfy { $0 >= 2.9e-4 && $0 <= 4.1e-4 },
                        "round \(round): \(made.parameters[5...]) of 3e-4 to 4e-4")
                    (session.weights, session.outer) = (made.reference, made.outer)
                }
            }
        }
    }

    @Test func `an update of a size that no codec gives is refused before the round's weights are read`() async throws {
        try await withObjects { objects, executor in
            var session = Self.session(["a"])
            // Reading these would fail.
            session.weights = ObjectReference(key: "missing", sha256: String(repeating: "0", count: 64), bytes: 1)
            let key = Self.key("a")
            for bytes in [4, 400_000] {
                let update = try await objects.put([UInt8](repeating: 1, count: bytes), key: key)
                let error = await #expect(throws: CohortError.self) {
                    _ = try await Aggregator(objects, on: executor).inspect(Self.done("a", update: update), attempt: 0, of: session)
                }
                #expect(
                    error?.code == .invalid && error?.message.contains("the update has \(bytes) bytes; one of this model has from") == true)
            }
        }
    }
}
