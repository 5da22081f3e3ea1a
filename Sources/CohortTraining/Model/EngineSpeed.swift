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
        let features = UnsafeMutablePointer<Float>.allocate(capacity: rows * 64)
        let targets = UnsafeMutablePointer<Float>.allocate(capacity: rows)
        for index in 0..<(rows * 64) { features[index] = generator.nextFloat() }
        for index in 0..<rows { targets[index] = Float(generator.next(below: 10)) }
        nonisolated(unsafe) let memory = (features, targets)  // Given back once, when the table goes.
        let all = (0..<UInt32(rows)).map { $0 }
        let table = try prepare(
            FeatureTable(
                features: features, targets: targets, rowCount: rows, featureCount: 64, trainingRows: all, validationRows: [],
                release: {
                    memory.0.deallocate()
                    memory.1.deallocate()
                }))
        let clock = ContinuousClock()
        // What is made once is not timed.
        let warm = try model.train(on: table, rows: all, options: options, shouldContinue: { true })
        var samples = 0
        let begun = clock.now
        while clock.now - begun < .seconds(seconds) {
            samples += try model.train(on: table, rows: all, options: options, shouldContinue: { true }).samples
        }
        return Double(max(samples, warm.samples)) / ((clock.now - begun) / .seconds(1))
    }
}
