import CohortCore
import CohortSession
import Testing

@testable import CohortStrategies

/// The server's own optimizers.
@Suite struct OuterOptimizerTests {
    /// Three rounds' changes of two weights.
    private static let changes: [[Float]] = [[0.1, -0.02], [0.05, 0.01], [-0.03, 0.04]]

    private func run(_ outer: OuterOptimizer) -> (weights: [[Float]], state: OuterState?) {
        var (weights, slots, state): ([Float], [[Float]], OuterState?) = ([1, -0.5], [], nil)
        var all: [[Float]] = []
        for change in Self.changes {
            var mean = zip(weights, change).map { $0 + $1 }
            state = outer.step(from: weights, &mean, slots: &slots, state: state)
            weights = mean
            all.append(weights)
        }
        #expect(slots.count == outer.slots.count)
        return (all, state)
    }

    /// torch.optim.SGD of PyTorch 2.15 with the change as the gradient's opposite; the adaptive rules by their formulas in Python.
    @Test(arguments: [
        (OuterOptimizer.momentum(beta: 0.9, learningRate: 0.7, nesterov: true), [Float(1.29568), -0.475976]),
        (.momentum(beta: 0.9, learningRate: 0.1, nesterov: false), [1.0336, -0.49952]),
        (.adaptive(.adam, beta1: 0.9, beta2: 0.99, learningRate: 0.01, tau: 0.001), [1.028_212_3, -0.502_735_06]),
        (.adaptive(.yogi, beta1: 0.9, beta2: 0.99, learningRate: 0.01, tau: 0.001), [1.028_109_5, -0.502_735_45]),
        (.adaptive(.adagrad, beta1: 0, beta2: 0, learningRate: 0.01, tau: 0.001), [1.011_763_5, -0.496_695_57]),
    ]) func `steps are those of the papers`(outer: OuterOptimizer, expected: [Float]) {
        let last = run(outer).weights[2]
        #expect(zip(last, expected).allSatisfy { abs($0 - $1) < 2e-6 }, "\(last)")
    }

    @Test func `without momentum the mean is the model, and a steady change is taken once in the end`() throws {
        let plain = run(.momentum(beta: 0, learningRate: 1, nesterov: false)).weights
        #expect(abs(plain[2][0] - 1.12) < 1e-6 && abs(plain[2][1] + 0.47) < 1e-6)
        let outer = try #require(FedAvgM().outerOptimizer(SessionSettings()))
        var (weights, slots, state): ([Float], [[Float]], OuterState?) = ([0], [], nil)
        for _ in 0..<200 {
            var mean = [weights[0] + 0.01]
            state = outer.step(from: weights, &mean, slots: &slots, state: state)
            weights = mean
        }
        // 200 changes of 0.01, but for those that momentum still holds.
        #expect(abs(weights[0] - 1.91) < 0.005, "\(weights)")
    }

    @Test func `a step's size follows the first round unless it is given, and a round without change is no division by zero`() {
        let (weights, state) = run(.adaptive(.adam, beta1: 0.9, beta2: 0.99, learningRate: nil, tau: nil))
        let size = (Double(0.1 * 0.1 + 0.02 * 0.02) / 2).squareRoot()
        #expect(abs((state?.learningRate ?? 0) - size) < 1e-6 && abs((state?.tau ?? 0) - size / 10) < 1e-7)
        #expect(weights[2].allSatisfy { $0.isFinite })
        for rule in [OuterOptimizer.AdaptiveRule.adam, .yogi, .adagrad] {
            let outer = OuterOptimizer.adaptive(rule, beta1: 0.9, beta2: 0.99, learningRate: nil, tau: nil)
            var (mean, slots): ([Float], [[Float]]) = ([1, 2], [])
            var state: OuterState? = outer.step(from: [1, 2], &mean, slots: &slots, state: nil)
            #expect(mean == [1, 2])
            // The first one that changes something counts as the first.
            mean = [1.5, 2]
            state = outer.step(from: [1, 2], &mean, slots: &slots, state: state)
            #expect(mean.allSatisfy { $0.isFinite } && mean[0] > 1 && mean[1] == 2 && (state?.learningRate ?? 0) > 0.3)
        }
    }

    @Test func `diloco says what it wants`() {
        #expect(DiLoCo().notes(SessionSettings(rounds: 10)).first?.contains("30 rounds or more; this session has 10") == true)
        #expect(DiLoCo().notes(SessionSettings(rounds: 30)).isEmpty && DiLoCo().optimizerMemory == .keep)
    }

    @Test func `a module's statistics are not stepped`() {
        let module = ModuleSpec(
            sha256: String(repeating: "0", count: 64), inputShape: [],
            tensors: [
                TensorSpec(name: "fc.weight", shape: [2]), TensorSpec(name: "bn.running_mean", shape: [1]),
                TensorSpec(name: "bn.running_var", shape: [1]),
            ])
        let model = ModelSpec(inputs: 1, hidden: [], outputs: 1, task: .regression, module: module)
        #expect(model.trainedParameterCount == 2, "older files are recognized by PyTorch's names")
        var (mean, slots): ([Float], [[Float]]) = ([1, 1, 0.5, 0.0004], [])
        let start: [Float] = [0, 0, 0, 1]
        var state: OuterState?
        for _ in 0..<3 {
            mean = [1, 1, 0.5, 0.0004]
            state = OuterOptimizer.momentum(beta: 0.9, learningRate: 1, nesterov: true).step(
                from: start, &mean, slots: &slots, state: state, trained: model.trainedParameterCount)
        }
        #expect(mean[0] > 2 && mean[2...] == [0.5, 0.0004])
        var values: [Float] = [-1, 1, -2, -0.1]
        model.boundStatistics(of: &values)
        #expect(values == [-1, 1, -2, 0], "only variances are 0 or more")
    }
}
