public import CohortCore

extension TrainingEngine {
    /// Samples a second on a fixed small net (64-128-64-10, batch 64, Adam), measured for about `seconds`. Blocks its thread.
    public func measureSamplesPerSecond(for seconds: Double = 0.2) throws -> Double {
        let spec = ModelSpec(inputs: 64, hidden: [128, 64], outputs: 10, task: .classification)
        let model = try makeModel(spec)
        try model.load(parameters: initialParameters(spec, seed: 1))
        let options = TrainingOptions(batchSize: 64)
        let rows = 1_024
        var generator = SeededGenerator(seed: 1)
        let features = (0..<(rows * 64)).map { _ in generator.nextFloat() }
        let targets = (0..<rows).map { _ in Float(generator.next(below: 10)) }
        let made = FeatureTable(features: features, targets: targets, featureCount: 64)
        let table = try prepare(made)
        let clock = ContinuousClock()
        // What is made once is not timed.
        let warm = try model.train(on: table, rows: made.trainingRows, options: options, shouldContinue: { true })
        var samples = 0
        let begun = clock.now
        while clock.now - begun < .seconds(seconds) {
            samples += try model.train(on: table, rows: made.trainingRows, options: options, shouldContinue: { true }).samples
        }
        return Double(max(samples, warm.samples)) / ((clock.now - begun) / .seconds(1))
    }
}
