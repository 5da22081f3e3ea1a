import CohortCore
import CohortSession
import CohortStrategies
import Testing

@Suite struct ShardingTests {
    @Test(arguments: [(10, [1.0, 1, 1]), (7, [1, 2, 4]), (1_000, [3.3, 0.1, 9]), (3, [1, 1, 1, 1, 1]), (0, [1, 1])])
    func `every row is dealt exactly once, in order`(total: Int, weights: [Double]) {
        let ranges = Sharding.proportional(total, weights: weights)
        #expect(ranges.count == weights.count)
        #expect(ranges.first?.start == 0 && ranges.last?.end == total)
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.end == $1.start })
        if total >= weights.count { #expect(ranges.allSatisfy { $0.count >= 1 }, "every peer gets some") }
    }

    private func rows(_ ranges: [RowRange]) -> Set<Int> { Set(ranges.flatMap { $0.start..<$0.end }) }

    /// Members come and go and change their speed: each row stays dealt once, sizes are those of the speeds, and what fits is kept.
    @Test(arguments: 1...20) func `peers keep their rows as far as the share allows`(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let total = Int.random(in: 20...500, using: &generator)
        var (held, dealt): ([[RowRange]], [RowSet?]) = ([[], []], [nil, nil])
        for _ in 0..<30 {
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: (held, dealt) = (held + [[]], dealt + [nil])
            case 1 where held.count > 1:
                let gone = Int.random(in: held.indices, using: &generator)
                held.remove(at: gone)
                dealt.remove(at: gone)
            default: break
            }
            let shares = Sharding.proportional(total, weights: held.map { _ in Double.random(in: 1...4, using: &generator) })
            let now = Sharding.keeping(held, shares: shares, dealt: dealt)
            #expect(now.map { $0.reduce(0) { $0 + $1.count } } == shares.map(\.count))
            let all = now.joined().sorted { $0.start < $1.start }
            #expect(all.first?.start == 0 && all.last?.end == total && zip(all, all.dropFirst()).allSatisfy { $0.end == $1.start })
            // With too many ranges, all rows are dealt in consecutive ranges.
            if now != shares.map({ $0.count > 0 ? [$0] : [] }) {
                for (before, after) in zip(held, now) {
                    let (had, has) = (rows(before), rows(after))
                    #expect(had.isSubset(of: has) || has.isSubset(of: had), "\(before) became \(after)")
                }
            }
            #expect(Sharding.keeping(now, shares: shares) == now)
            held = now
            for index in dealt.indices {
                var set = dealt[index] ?? RowSet()
                now[index].forEach { set.insert($0) }
                dealt[index] = set
            }
        }
    }

    @Test func `of a peer that goes the rows move, and no others; one that grows again gets back what it had`() {
        let shares = Sharding.proportional(120, weights: [1, 1, 1, 1])
        let four = Sharding.keeping([[], [], [], []], shares: shares)
        #expect(four == shares.map { [$0] })
        let three = Sharding.keeping([four[0], four[2], four[3]], shares: Sharding.proportional(120, weights: [1, 1, 1]))
        #expect(three[0] == [RowRange(start: 0, end: 40)])
        #expect(three[1] == [RowRange(start: 60, end: 90), RowRange(start: 40, end: 50)])
        #expect(three[2] == [RowRange(start: 90, end: 120), RowRange(start: 50, end: 60)])
        // Joined again, as another machine: the others give what they had last.
        let again = Sharding.keeping([three[0], three[1], three[2], []], shares: shares)
        #expect(
            again == [
                [RowRange(start: 0, end: 30)], [RowRange(start: 60, end: 90)], [RowRange(start: 90, end: 120)],
                [RowRange(start: 30, end: 60)],
            ])
        // The second was late and is back: it had rows 60 to 90.
        let late = Sharding.keeping(
            [[RowRange(start: 0, end: 60)], [RowRange(start: 60, end: 70)]], shares: Sharding.proportional(100, weights: [1, 1]),
            dealt: [nil, RowSet([RowRange(start: 60, end: 90)])])
        #expect(late[1].first == RowRange(start: 60, end: 90))
    }

    @Test(arguments: [
        [1e308, 1], [.infinity, 1], [.infinity, .infinity], [.nan, 1], [-1, 1], [0, 0], [.leastNonzeroMagnitude, .leastNonzeroMagnitude],
        [1e308, 1e308, 1e308],
        [1e-300, 1e300],
    ]) func `weights that are no speeds deal every row all the same`(weights: [Double]) {
        for total in [0, 1, 2, 7, 275, 1 << 40] {
            let ranges = Sharding.proportional(total, weights: weights)
            #expect(ranges.last?.end == total && ranges.allSatisfy { $0.count >= (total >= weights.count ? 1 : 0) }, "\(ranges)")
        }
    }

    @Test func `a declared speed gets at most eight times the median's share, a shown one more`() {
        func peer(_ id: String, _ speed: Double, trained: Int = 0) -> SessionPeer {
            var peer = SessionPeer(id: id, name: id, engine: "native", device: "cpu", registration: 1, speed: speed)
            peer.trainedSamples = trained
            return peer
        }
        let declared = FedAvg().deal(trainingRows: 1_000, round: 0, peers: [peer("a", 1), peer("b", 1), peer("c", 0x1p30)])
        #expect(declared.map { $0.reduce(0) { $0 + $1.count } } == [101, 101, 798])
        let shown = FedAvg().deal(trainingRows: 1_000, round: 0, peers: [peer("a", 1), peer("b", 1), peer("c", 32, trained: 1)])
        #expect(shown.map { $0.reduce(0) { $0 + $1.count } } == [30, 30, 940])
    }

    @Test func `shares are proportional to speed`() {
        #expect(Sharding.proportional(700, weights: [1, 2, 4]).map(\.count) == [101, 200, 399])
        #expect(Sharding.proportional(9, weights: [1, 1, 1]).map(\.count) == [3, 3, 3])
    }
}

@Suite struct StrategyTests {
    @Test func `the catalogue names what there is`() throws {
        #expect(
            StrategyCatalogue.builtIn.names == [
                "fedavg", "fedprox", "scaffold", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "diloco", "median", "trimmed_mean", "krum",
                "multi_krum",
                "geometric_median", "centered_clipping", "fedbuff", "independent",
            ])
        let taken = #expect(throws: CohortError.self) { try StrategyCatalogue.builtIn.adding(FedAvg()) }
        #expect(taken?.message == "there is a strategy 'fedavg' already" && StrategyCatalogue.builtIn.names.count == 16)
        let error = #expect(throws: CohortError.self) { try StrategyCatalogue.builtIn.named("magic") }
        #expect(error?.message.contains("one of fedavg, fedprox, scaffold") == true)
    }

    @Test func `fedavg weighs by samples`() {
        let answers = [("a", 30), ("b", 10)].map { StrategyAnswer(peerId: $0.0, samples: $0.1, ownEvaluation: nil) }
        #expect(
            FedAvg().outcome(of: answers, SessionSettings())
                == .average([Share(peerId: "a", weight: 0.75), Share(peerId: "b", weight: 0.25)]))
    }

    @Test func `answers count by rows, all alike, or by steps`() {
        var settings = SessionSettings()
        let answers = [("a", 30, 1), ("b", 10, 4)].map { StrategyAnswer(peerId: $0.0, samples: $0.1, steps: $0.2) }
        func weights(_ strategy: any Strategy, _ answers: [StrategyAnswer]) -> [Double] {
            strategy.outcome(of: answers, settings).shares.map(\.weight)
        }
        for strategy in [FedAvg(), FedProx(), DiLoCo()] as [any Strategy] {
            settings.weighting = .samples
            #expect(weights(strategy, answers) == [0.75, 0.25])
            settings.weighting = .uniform
            #expect(weights(strategy, answers) == [0.5, 0.5])
            settings.weighting = .steps
            #expect(weights(strategy, answers) == [0.2, 0.8])
            #expect(weights(strategy, ["a", "b"].map { StrategyAnswer(peerId: $0, samples: 3) }) == [0.5, 0.5])
        }
    }

    @Test func `a strategy refuses other strategies' settings, and too few peers`() throws {
        func refusal(_ strategy: any Strategy, peers: Int = 9, _ change: (inout SessionSettings) -> Void = { _ in }) -> String {
            var settings = SessionSettings(peers: peers)
            change(&settings)
            do { try strategy.check(settings) } catch let error as CohortError { return error.message } catch { return "\(error)" }
            return ""
        }
        #expect(refusal(FedAvg()) { $0.serverLr = 0.5 } == "server_lr is 0.5; it must be absent with fedavg, which does not use it")
        #expect(refusal(FedAvgM()) { $0.serverTau = 0.5 }.contains("server_tau"))
        #expect(refusal(FedAdam()) { ($0.serverTau, $0.serverLr, $0.serverMomentum, $0.weighting) = (0.5, 1, 0.1, .steps) }.isEmpty)
        #expect(refusal(Krum()) { $0.weighting = .uniform }.contains("weighting is uniform"))
        #expect(refusal(Independent()) { $0.nearestNeighborMixing = true }.contains("nearest_neighbor_mixing is true"))
        #expect(refusal(TrimmedMean(), peers: 4) == "peers is 4; it must be at least 5 with trimmed_mean")
        #expect(refusal(Krum(), peers: 6) { $0.maliciousPeers = 2 } == "peers is 6; it must be at least 7 with krum and malicious_peers 2")
        #expect(refusal(Median(), peers: 1).isEmpty && refusal(Median(), peers: 4) { $0.maliciousPeers = 2 }.contains("at least 5"))
        #expect(refusal(FedBuff(), peers: 2) { $0.bufferSize = 3 } == "buffer_size is 3; it must be from 1 to peers, which is 2")
        #expect(refusal(FedAvg()) { $0.bufferSize = 2 }.contains("it must be absent with fedavg"))
        let sgd = OptimizerSpec(name: .sgd)
        #expect(refusal(Scaffold()) == "optimizer is adam; it must be sgd without momentum with scaffold")
        #expect(refusal(Scaffold()) { $0.optimizer = OptimizerSpec(name: .sgd, momentum: 0.9) }.contains("sgd with momentum 0.9"))
        #expect(refusal(Scaffold()) { ($0.optimizer, $0.proximalMu) = (sgd, 0.1) }.contains("proximal_mu is 0.1"))
        for strategy in StrategyCatalogue.builtIn.all {
            #expect(refusal(strategy) { $0.optimizer = strategy.optimizer ?? $0.optimizer }.isEmpty, "\(strategy.name)")
        }
    }

    @Test func `fedbuff deals all rows in equal parts, another each round, and counts stale changes for less`() {
        let peers = (0..<3).map {
            SessionPeer(id: "\($0)", name: "\($0)", engine: "", device: "", registration: 1, speed: Double(1 + $0 * 100))
        }
        var seen = [Set<Int>](repeating: [], count: 3)
        for round in 0..<3 {
            let shares = FedBuff().deal(trainingRows: 10, round: round, peers: peers)
            #expect(shares.flatMap { $0 }.flatMap { $0.start..<$0.end }.sorted() == Array(0..<10))
            for (peer, ranges) in shares.enumerated() { seen[peer].formUnion(ranges.flatMap { $0.start..<$0.end }) }
        }
        #expect(seen.allSatisfy { $0 == Set(0..<10) })
        let answers = [StrategyAnswer(peerId: "a", samples: 5), StrategyAnswer(peerId: "b", samples: 15, staleness: 3)]
        #expect(
            FedBuff().outcome(of: answers, SessionSettings())
                == .average([Share(peerId: "a", weight: 0.25), Share(peerId: "b", weight: 0.75, scale: 0.5)]))
        #expect(FedBuff().bufferSize(SessionSettings(), peers: 5) == 3 && FedBuff().bufferSize(SessionSettings(), peers: 1) == 1)
    }

    @Test func `robust strategies stand as many liars as the answers allow, and no more than the setting`() {
        func rule(_ strategy: any Strategy, of count: Int, said: Int? = nil, mixes: Bool? = nil) -> RoundOutcome {
            var settings = SessionSettings(peers: count)
            (settings.maliciousPeers, settings.nearestNeighborMixing) = (said, mixes)
            return strategy.outcome(of: (0..<count).map { StrategyAnswer(peerId: "\($0)", samples: 1) }, settings)
        }
        #expect(rule(Krum(), of: 8).rule == .krum(malicious: 2, keep: 1))
        #expect(rule(MultiKrum(), of: 8, said: 1).rule == .krum(malicious: 1, keep: 7))
        #expect(rule(TrimmedMean(), of: 5).rule == .trimmedMean(1))
        #expect(rule(TrimmedMean(), of: 3, said: 9).rule == .trimmedMean(1))
        #expect(rule(Median(), of: 8, mixes: true).mixing == 2 && rule(Median(), of: 8).mixing == nil)
        #expect(rule(Krum(), of: 1).rule == .krum(malicious: 0, keep: 1))
    }

    @Test func `what peers are asked for beside the settings`() {
        var settings = SessionSettings(earlyStopping: 4)
        #expect(FedAvg().recipe(settings) == WorkRecipe() && Median().recipe(settings) == WorkRecipe())
        #expect(FedProx().recipe(settings) == WorkRecipe(proximalMu: 0.01))
        #expect(Independent().recipe(settings) == WorkRecipe(evaluatesOwn: true, earlyStopping: 4))
        settings.proximalMu = 0.5
        #expect(FedAvg().recipe(settings).proximalMu == 0.5 && FedProx().recipe(settings).proximalMu == 0.5)
    }

    @Test func `independent selects the lowest validation loss`() {
        let answers = [("a", 2.0), ("b", 1.0), ("c", 3.0)].map {
            StrategyAnswer(peerId: $0.0, samples: 1, ownEvaluation: Counts(samples: 1, lossSum: $0.1))
        }
        #expect(Independent().outcome(of: answers, SessionSettings()) == .select(peerId: "b"))
        #expect(Independent().deal(trainingRows: 5, round: 0, peers: []).isEmpty)
        #expect(Independent().roundCount(SessionSettings(rounds: 9)) == 1)
    }
}

@Suite struct AggregationTests {
    @Test func `an update that is not a number is refused, with its place`() throws {
        let layout = WeightsLayout(
            ModelSpec(inputs: 2, hidden: [], outputs: 1, task: .regression), streams: ["exp_avg", "exp_avg_sq"])
        var inspection = UpdateInspection(layout, start: [1, 1, 1] + [Float](repeating: 9, count: 6))
        try inspection.feed([4, 5])
        #expect(inspection.norm == 5)
        var other = inspection
        let error = #expect(throws: CohortError.self) { try inspection.feed([.nan]) }
        #expect(error?.message.contains("parameter 2") == true)
        // What the optimizer remembers is no part of the step, and its squares are none when they are negative.
        try other.feed([1, -7, 0, 7])
        #expect(other.norm == 5)
        try other.feed([0, 2])
        let squares = #expect(throws: CohortError.self) { try other.feed([-1e-9]) }
        #expect(squares?.message.contains("where the optimizer has squares") == true)
    }

    @Test func `norms are the same bits in whatever pieces an update streams by`() throws {
        let model = ModelSpec(inputs: 9, hidden: [7], outputs: 3, task: .classification)
        let layout = WeightsLayout(model, streams: ["exp_avg", "exp_avg_sq"])
        var draw = SeededGenerator(seed: 3, purpose: "pieces")
        let count = model.parameterCount
        let start = (0..<layout.count).map { _ in draw.nextFloat() - 0.5 }
        let values = (0..<layout.count).map { $0 < 2 * count ? draw.nextFloat() - 0.5 : draw.nextFloat() }
        func inspect(_ piece: Int) throws -> UpdateInspection {
            var inspection = UpdateInspection(layout, start: start)
            for first in stride(from: 0, to: values.count, by: piece) {
                try inspection.feed(Array(values[first..<min(values.count, first + piece)]))
            }
            return inspection
        }
        let whole = try inspect(values.count)
        let square = zip(values, start).prefix(count).reduce(0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }
        #expect(abs(whole.norm / square.squareRoot() - 1) < 1e-12)
        let moments = values[count..<(2 * count)].reduce(0) { $0 + Double($1) * Double($1) }
        #expect(abs((whole.streamNorms["exp_avg"] ?? 0) / moments.squareRoot() - 1) < 1e-12)
        let squares = values[(2 * count)...].reduce(0) { $0 + Double($1) }
        #expect(abs((whole.streamNorms["exp_avg_sq"] ?? 0) / squares.squareRoot() - 1) < 1e-12)
        for piece in [1, 2, 3, 5, 8, 61, 100] {
            let found = try inspect(piece)
            #expect(found.norm == whole.norm && found.streamNorms == whole.streamNorms, "\(piece)")
        }
        for place in [0, 5, count, count + 3, layout.count - 1] {
            for bad in [Float.nan, .infinity] {
                var broken = values
                broken[place] = bad
                var inspection = UpdateInspection(layout, start: start)
                let error = #expect(throws: CohortError.self) { try inspection.feed(broken) }
                #expect(error?.message.contains("at parameter \(place)") == true)
            }
        }
    }
}

@Suite struct DeadlineTests {
    @Test func `there is no deadline before anybody has answered`() {
        #expect(RoundDeadline().closesAt(quorumAt: nil) == nil)
    }

    @Test func `the grace is five seconds or a quarter of the median, three medians at the latest`() {
        let short = RoundDeadline(recent: [1, 1, 1])
        #expect(short.closesAt(quorumAt: 1) == 6)
        #expect(short.closesAt(quorumAt: nil) == 8)
        let long = RoundDeadline(recent: [90, 100, 110, 5_000])
        #expect(long.median == 105)
        #expect(long.closesAt(quorumAt: 100) == 126.25)
        #expect(long.closesAt(quorumAt: 1_000) == 320)
    }
}
