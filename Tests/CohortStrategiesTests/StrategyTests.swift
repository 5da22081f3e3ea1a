import CohortCore
import CohortStrategies
import Testing

@Suite struct ShardingTests {
    @Test(arguments: [(10, [1.0, 1, 1]), (7, [1, 2, 4]), (1_000, [3.3, 0.1, 9]), (3, [1, 1, 1, 1, 1]), (0, [1, 1])])
    func `every row is dealt exactly once, in order`(total: Int, weights: [Double]) {
        let ranges = Sharding.proportional(total, weights: weights)
        #expect(ranges.count == weights.count)
        #expect(ranges.first?.start == 0 && ranges.last?.end == total)
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.end == $1.start })
        if total >= weights.count { #expect(ranges.allSatisfy { $0.count >= 1 }, "nobody is left without") }
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
        #expect(Set(StrategyCatalogue.names) == ["fedavg", "fedprox", "median", "independent"])
        let error = #expect(throws: CohortError.self) { try StrategyCatalogue.named("magic") }
        #expect(error?.message.contains("fedavg, fedprox, median, independent") == true)
    }

    @Test func `fedavg weighs by samples`() {
        let answers = [("a", 30), ("b", 10)].map { StrategyAnswer(peerId: $0.0, samples: $0.1, ownEvaluation: nil) }
        #expect(
            FedAvg().outcome(of: answers, task: .classification)
                == .average([Share(peerId: "a", weight: 0.75), Share(peerId: "b", weight: 0.25)]))
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
        #expect(Independent().outcome(of: answers, task: .classification) == .select(peerId: "b"))
        #expect(Independent().deal(trainingRows: 5, round: 0, peers: []).isEmpty)
        #expect(Independent().roundCount(SessionSettings(rounds: 9)) == 1)
    }
}

@Suite struct AggregationTests {
    @Test func `the mean is weighted, whatever the pieces it is fed in`() throws {
        var whole = WeightedMean(parameterCount: 3)
        whole.begin(weight: 0.25)
        try whole.feed([1, 2, 3])
        whole.begin(weight: 0.75)
        try whole.feed([5, 6, 7])
        var pieces = WeightedMean(parameterCount: 3)
        pieces.begin(weight: 0.25)
        try pieces.feed([1])
        try pieces.feed([2, 3])
        pieces.begin(weight: 0.75)
        try pieces.feed([5, 6, 7])
        #expect(whole.mean == [4, 5, 6] && pieces.mean == whole.mean)
        #expect(throws: CohortError.self) { try pieces.feed([1]) }
    }

    @Test func `an update that is not a number is refused, with its place`() throws {
        var inspection = UpdateInspection(start: [1, 1, 1])
        try inspection.feed([4, 5])
        #expect(inspection.norm == 5)
        let error = #expect(throws: CohortError.self) { try inspection.feed([.nan]) }
        #expect(error?.message.contains("parameter 2") == true)
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
