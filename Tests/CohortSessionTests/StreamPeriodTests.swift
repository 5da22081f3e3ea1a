import CohortCore
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

@testable import CohortSession

/// Moments that each peer keeps, and that are averaged now and then (DES-LOC).
@Suite struct StreamPeriodTests {
    private static let model = ModelSpec(inputs: 1, hidden: [], outputs: 1, task: .regression)

    private func stage(_ strategy: any Strategy, rounds: Int = 13, _ optimizer: OptimizerSpec = OptimizerSpec(name: .adam)) -> Stage {
        var stage = Stage(rounds: rounds, strategy: strategy) {
            ($0.strategy, $0.optimizerState, $0.optimizer) = (strategy.name, .keep, optimizer)
        }
        return stage.started()
    }

    @Test func `the first moment goes every third round, the second every sixth, and none in the last`() {
        var stage = stage(FedAvg(), rounds: 12)
        var sent: [[String]] = []
        var begun: [[String]] = []
        while !stage.machine.isEvaluation {
            sent.append(stage.session.updateLayout?.streams ?? ["?"])
            begun.append(stage.session.layout?.streams ?? ["?"])
            for name in ["a", "b", "c"] { stage.done(name) }
            stage.aggregated()
        }
        let (none, first, both): ([String], [String], [String]) = ([], ["exp_avg"], ["exp_avg", "exp_avg_sq"])
        #expect(sent == [none, none, first, none, none, both, none, none, first, none, none, none])
        // What updates had stands in the weights that are made of them.
        #expect(begun == [none] + sent.dropLast() && stage.session.layout?.streams == none)
        for checkpoint in stage.session.checkpoints {
            #expect(stage.session.layout(of: checkpoint.weights)?.streams == sent[checkpoint.round])
        }
    }

    @Test func `the number of steps is sent where moments are, and only there`() {
        var stage = stage(FedAvg())
        var steps: [Int?] = []
        for round in 0..<7 {
            for name in ["a", "b", "c"] {
                var done = stage.doneEvent(name)
                if stage.session.updateLayout?.streams.isEmpty == false { done.results.optimizerSteps = 10 * (round + 1) }
                stage.send(.done(done, norm: 1, measured: nil))
            }
            stage.aggregated()
            steps.append(stage.session.optimizerSteps)
        }
        #expect(steps == [nil, nil, 30, nil, nil, 60, nil])
    }

    @Test func `SGD's velocity is a first moment; without one, alone and in a buffer nothing goes`() {
        let velocity = stage(FedAvg(), OptimizerSpec(name: .sgd, momentum: 0.9)).session
        #expect(velocity.streams == ["momentum_buffer"] && velocity.streamPeriods == [3])
        #expect(stage(FedAvg(), OptimizerSpec(name: .sgd)).session.streams == nil)
        #expect(stage(Independent()).session.streams == nil)
        #expect(stage(FedBuff()).session.streams == nil && stage(DiLoCo()).session.streams == nil)
        #expect(stage(FedAdam()).session.streamPeriods == [3, 6])
        var averaged = stage(FedAvg()).session
        (averaged.streamPeriods, averaged.round) = (nil, 1)
        #expect(averaged.layout?.streams == averaged.streams && averaged.updateLayout == averaged.layout, "without periods they always go")
    }

    @Test func `what was averaged takes the place of a machine's own, and a part alone is no use`() throws {
        let adam = OptimizerSpec(name: .adam)
        let own = OptimizerState(optimizer: adam, steps: 7, streams: ["exp_avg": [1, 2], "exp_avg_sq": [3, 4]])
        func state(_ streams: [String], _ values: [Float], steps: Int, own: OptimizerState?) -> OptimizerState? {
            WeightsLayout(Self.model, streams: streams).optimizerState(of: values, adam, steps: steps, own: own)
        }
        let part = try #require(state(["exp_avg"], [9, 9, 50, 1.5], steps: 40, own: own))
        // A square is at least that of the mean which others' gradients made: a step divides by its root.
        #expect(part.streams["exp_avg"] == [50, 1.5] && part.streams["exp_avg_sq"]?[1] == 4 && part.steps == 7)
        let raised = try #require(part.streams["exp_avg_sq"]).map(Double.init)[0]
        // 1 − 0.999⁷ and 1 − 0.9⁷.
        #expect(abs((raised / 0.006_979_035).squareRoot() - 50 / 0.521_703_1) < 0.01, "its root is the mean, both corrected")
        // One that is alone goes on as it would by itself.
        let alone = OptimizerState(optimizer: adam, steps: 7, streams: ["exp_avg": [50, 2], "exp_avg_sq": [3, 4]])
        #expect(state(["exp_avg"], [9, 9, 50, 2], steps: 40, own: alone) == alone)
        let all = try #require(state(["exp_avg", "exp_avg_sq"], [9, 9, 5, 6, 7, 8], steps: 40, own: own))
        #expect(all.streams == ["exp_avg": [5, 6], "exp_avg_sq": [7, 8]] && all.steps == 7)
        // A machine that remembers nothing.
        #expect(state(["exp_avg", "exp_avg_sq"], [9, 9, 5, 6, 7, 8], steps: 40, own: nil)?.steps == 40)
        #expect(state(["exp_avg"], [9, 9, 5, 6], steps: 40, own: nil) == nil)
        let fresh = OptimizerState(optimizer: adam, steps: 0, streams: ["exp_avg": [0, 0], "exp_avg_sq": [0, 0]])
        #expect(state(["exp_avg"], [9, 9, 5, 6], steps: 40, own: fresh) == nil)
        #expect(state(["exp_avg", "exp_avg_sq"], [9, 9, 5, 6, 7, 8], steps: 40, own: fresh)?.steps == 40)
        #expect(state([], [9, 9], steps: 40, own: own) == nil, "its own goes on by itself")
        #expect(state(["momentum_buffer"], [9, 9, 5, 6], steps: 40, own: own) == nil)
    }
}
