import CohortCore
import Testing

/// Against numbers of scikit-learn 1.9.1 (`metrics`) and statsmodels 0.15 (`proportion_confint`, Wilson) on the same rows.
@Suite struct EvaluationTests {
    private func schema(_ task: LearningTask) -> TableSchema {
        let isClasses = task == .classification
        return TableSchema(
            hasHeader: true, delimiter: ",",
            columns: [
                TableSchema.Column(name: "x", kind: .numeric, mean: 0, std: 1),
                TableSchema.Column(name: "y", kind: .target, mean: isClasses ? nil : 4, std: isClasses ? nil : 2),
            ], target: "y", task: task, classes: isClasses ? ["a", "b", "c"] : [], validation: 0.2, splitSeed: 0, trainingRows: 10,
            validationRows: 10, droppedRows: 0, classCounts: isClasses ? [5, 1, 4] : nil)
    }

    private func near(_ a: Double?, _ b: Double) -> Bool { a.map { abs($0 - b) < 1e-6 } ?? false }

    @Test func `classes are scored as scikit-learn scores them`() throws {
        var tally = EvaluationTally(schema(.classification))
        let probabilities: [[Float]] = [
            [0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.4, 0.35, 0.25], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4],
            [0.05, 0.9, 0.05], [0.25, 0.25, 0.5], [0.9, 0.05, 0.05],
        ]
        for (row, actual) in zip(probabilities, [0, 0, 0, 1, 1, 2, 2, 2, 2, 0]) { tally.add(probabilities: row, actual: actual) }
        let result = try #require(tally.evaluation)
        #expect(result.samples == 10 && near(result.accuracy, 0.7) && near(result.balancedAccuracy, 2.0 / 3))
        #expect(near(result.loss, 0.984672921871752), "\(result.loss ?? 0)")
        #expect(result.confusion == [[3, 1, 0], [1, 1, 0], [0, 1, 3]])
        let scores = try #require(result.classes)
        #expect(near(scores[0].precision, 0.75) && near(scores[1].precision, 1.0 / 3) && near(scores[2].precision, 1))
        #expect(near(scores[0].recall, 0.75) && near(scores[1].recall, 0.5) && near(scores[2].recall, 0.75))
        #expect(near(scores[0].f1, 0.75) && near(scores[1].f1, 0.4) && near(scores[2].f1, 6.0 / 7) && scores.map(\.samples) == [4, 2, 4])
        let interval = try #require(result.accuracyInterval)
        #expect(abs(interval[0] - 0.396774) < 1e-4 && abs(interval[1] - 0.892210) < 1e-4, "\(interval)")
        #expect(near(result.calibrationError, 0.33) && result.calibration?.reduce(0) { $0 + $1.samples } == 10)
        #expect(result.guessing?.prediction == "a" && near(result.guessing?.accuracy, 0.4))
    }

    @Test func `quantities are measured in the target's own units`() throws {
        var tally = EvaluationTally(schema(.regression))
        for (predicted, actual) in [(2.5, 3.0), (5.5, 5), (7, 9), (2, 1), (4, 4.5)] { tally.add(predicted: predicted, actual: actual) }
        let result = try #require(tally.evaluation)
        #expect(near(result.rmse, 1.0723805294763609) && near(result.mae, 0.9) && near(result.r2, 0.8357142857142857))
        #expect(near(result.loss, 1.15 / 4), "of the standardized target")
        #expect(near(result.guessing?.rmse, 2.692582403567252) && near(result.guessing?.mae, 2.1))
    }

    @Test(arguments: [1, 256, 257, 10_000]) func `some rows are kept, evenly chosen, with what was predicted`(rows: Int) throws {
        var tally = EvaluationTally(schema(.regression))
        for row in 0..<rows { tally.add(predicted: Double(row) + 0.5, actual: Double(row)) }
        let kept = try #require(tally.evaluation?.predictions)
        #expect(rows <= 256 ? kept.count == rows : 128...256 ~= kept.count)
        #expect(kept.allSatisfy { $0.predicted - $0.actual == 0.5 })
        let steps = Set(zip(kept, kept.dropFirst()).map { $1.actual - $0.actual })
        #expect(steps.count <= 1 && kept.first?.actual == 0)
    }

    @Test func `nothing measured is no evaluation, and what is not a number is left out`() throws {
        #expect(EvaluationTally(schema(.regression)).evaluation == nil)
        var tally = EvaluationTally(schema(.regression))
        tally.add(predicted: .infinity, actual: 1)
        let result = try #require(tally.evaluation)
        #expect(result.rmse == nil && result.mae == nil && result.r2 == nil)
        #expect(throws: Never.self) { try CohortJSON.encode(result) }
        var classes = EvaluationTally(schema(.classification))
        classes.add(probabilities: [Float.nan, .nan, .nan], actual: 1)
        #expect(throws: Never.self) { try CohortJSON.encode(classes.evaluation) }
    }
}
