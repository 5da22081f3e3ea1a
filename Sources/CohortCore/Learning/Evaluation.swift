import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The quality of a model on rows that it was not trained on, as in scikit-learn's `classification_report` and `metrics`, with that of guessing
/// for comparison.
public struct Evaluation: Codable, Hashable, Sendable {
    public var task: LearningTask
    public var target: String
    /// Rows measured.
    public var samples: Int
    /// Classification: mean cross-entropy in nats (log loss). Regression: mean squared error of the standardized target.
    public var loss: Double?

    // Classification.
    /// Share of rows predicted right, 0 … 1, and its 95 % interval (Wilson 1927).
    public var accuracy: Double?
    public var accuracyInterval: [Double]?
    /// Mean recall of the classes that are there.
    public var balancedAccuracy: Double?
    /// One a class, in the order of the model's outputs.
    public var classes: [ClassScore]?
    /// Rows of each true class by predicted class; absent for more than 100 classes.
    public var confusion: [[Int]]?
    /// Tenths of the probability given to the predicted class; those without rows are left out.
    public var calibration: [CalibrationBin]?
    /// Mean distance of accuracy and probability over the tenths, by rows (expected calibration error).
    public var calibrationError: Double?

    // Regression, in the target's own units.
    /// Root of the mean squared error.
    public var rmse: Double?
    /// Mean absolute error.
    public var mae: Double?
    /// Coefficient of determination, at most 1; 0 is what the mean of these rows reaches.
    public var r2: Double?

    /// Some of the rows, evenly chosen, with what was predicted.
    public var predictions: [Pair]?

    /// The metrics of always guessing the most frequent class of the training rows, or their mean, on the same rows.
    public var guessing: Guessing?

    /// The importance of each column, most important first; absent when it was not measured.
    public var importance: [Importance]?

    /// The loss of quality when a column's values are shuffled among the rows (permutation importance, Breiman 2001).
    public struct Importance: Codable, Hashable, Sendable {
        public var column: String
        /// The loss gets larger by so much.
        public var loss: Double
        /// Classification: the accuracy falls by so much.
        public var accuracy: Double?

        public init(column: String, loss: Double, accuracy: Double?) {
            self.column = column
            self.loss = loss
            self.accuracy = accuracy
        }
    }

    /// A predicted and an actual value, in the target's units.
    public struct Pair: Codable, Hashable, Sendable {
        public var actual: Float
        public var predicted: Float
    }

    public struct ClassScore: Codable, Hashable, Sendable {
        public var label: String
        /// Among the rows predicted as this class, the share that belongs to it; absent without such rows.
        public var precision: Double?
        /// Among the rows of this class, the share predicted as such; absent without such rows.
        public var recall: Double?
        /// Harmonic mean of the two.
        public var f1: Double?
        /// Its rows.
        public var samples: Int
    }

    public struct CalibrationBin: Codable, Hashable, Sendable {
        public var from: Double
        public var to: Double
        public var samples: Int
        /// Mean probability of the predicted class.
        public var probability: Double
        public var accuracy: Double
    }

    public struct Guessing: Codable, Hashable, Sendable {
        /// The class, or the number.
        public var prediction: String
        public var accuracy: Double?
        public var rmse: Double?
        public var mae: Double?
    }
}

/// Takes predictions row by row, in memory that does not grow with them.
public struct EvaluationTally: Sendable {
    private static let maxConfused = 100
    private static let bins = 10
    private static let maxPairs = 256

    private let schema: TableSchema
    private let target: TableSchema.Column?
    /// Rows of each true class by predicted class, row-major.
    private var confusion: [Int]
    private var lossSum = 0.0
    private var binned: [(samples: Int, probability: Double, right: Int)]
    private var samples = 0
    private var (errors, squares) = (0.0, 0.0)
    private var (sum, sumOfSquares) = (0.0, 0.0)
    private var (guessErrors, guessSquares) = (0.0, 0.0)
    /// Every `pairStep`-th row.
    private var pairs: [Evaluation.Pair] = []
    private var pairStep = 1

    public init(_ schema: TableSchema) {
        self.schema = schema
        target = schema.columns.first { $0.kind == .target }
        confusion = [Int](repeating: 0, count: schema.task == .classification ? schema.classes.count * schema.classes.count : 0)
        binned = .init(repeating: (0, 0, 0), count: Self.bins)
    }

    /// - Parameters:
    ///   - probabilities: of the classes, in the order of the schema's.
    ///   - actual: index of the true class.
    public mutating func add(probabilities: some Collection<Float>, actual: Int) {
        var (best, most, given) = (0, -Float.infinity, Float(0))
        for (index, probability) in probabilities.enumerated() {
            if probability > most { (best, most) = (index, probability) }
            if index == actual { given = probability }
        }
        samples += 1
        confusion[actual * schema.classes.count + best] += 1
        // A probability of 0 counts as the least that a Float can say.
        lossSum -= Double(log(max(given, .leastNormalMagnitude)))
        // A model that diverged says nothing of how sure it is.
        guard most.isFinite else { return }
        let bin = min(Self.bins - 1, max(0, Int(min(most, 1) * Float(Self.bins))))
        binned[bin].samples += 1
        binned[bin].probability += Double(most)
        if best == actual { binned[bin].right += 1 }
    }

    /// Adds a row; both values are in the target's units.
    public mutating func add(predicted: Double, actual: Double) {
        if samples % pairStep == 0 {
            if pairs.count == Self.maxPairs {
                pairs = pairs.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
                pairStep *= 2
            }
            // What cannot be written down is no point.
            let pair = Evaluation.Pair(actual: Float(actual), predicted: Float(predicted))
            if samples % pairStep == 0 { pairs.append(pair) }
        }
        samples += 1
        let error = predicted - actual
        errors += abs(error)
        squares += error * error
        sum += actual
        sumOfSquares += actual * actual
        let guess = (target?.mean ?? 0) - actual
        guessErrors += abs(guess)
        guessSquares += guess * guess
    }

    /// nil when no row was taken.
    public var evaluation: Evaluation? {
        guard samples > 0 else { return nil }
        var result = Evaluation(task: schema.task, target: schema.target, samples: samples)
        schema.task == .classification ? classify(&result) : regress(&result)
        return result
    }

    private func classify(_ result: inout Evaluation) {
        let count = schema.classes.count
        let rows = (0..<count).map { actual in confusion[(actual * count)..<((actual + 1) * count)].reduce(0, +) }
        let predicted = (0..<count).map { index in (0..<count).reduce(0) { $0 + confusion[$1 * count + index] } }
        let right = (0..<count).map { confusion[$0 * count + $0] }
        let all = Double(samples)
        let accuracy = Double(right.reduce(0, +)) / all
        result.loss = (lossSum / all).finite
        result.accuracy = accuracy
        // Wilson's interval, z = 1.96.
        let z = 1.96
        let middle = (accuracy + z * z / (2 * all)) / (1 + z * z / all)
        let half = z / (1 + z * z / all) * (accuracy * (1 - accuracy) / all + z * z / (4 * all * all)).squareRoot()
        result.accuracyInterval = [max(0, middle - half), min(1, middle + half)]
        result.classes = (0..<count).map { index in
            let precision = predicted[index] > 0 ? Double(right[index]) / Double(predicted[index]) : nil
            let recall = rows[index] > 0 ? Double(right[index]) / Double(rows[index]) : nil
            let f1 = rows[index] + predicted[index] > 0 ? 2 * Double(right[index]) / Double(rows[index] + predicted[index]) : nil
            return Evaluation.ClassScore(label: schema.classes[index], precision: precision, recall: recall, f1: f1, samples: rows[index])
        }
        let recalls = result.classes?.compactMap(\.recall) ?? []
        result.balancedAccuracy = recalls.isEmpty ? nil : recalls.reduce(0, +) / Double(recalls.count)
        if count <= Self.maxConfused { result.confusion = (0..<count).map { Array(confusion[($0 * count)..<(($0 + 1) * count)]) } }
        result.calibration = binned.enumerated().compactMap { index, bin in
            guard bin.samples > 0 else { return nil }
            return Evaluation.CalibrationBin(
                from: Double(index) / Double(Self.bins), to: Double(index + 1) / Double(Self.bins), samples: bin.samples,
                probability: bin.probability / Double(bin.samples), accuracy: Double(bin.right) / Double(bin.samples))
        }
        let sure = binned.reduce(0) { $0 + $1.samples }
        result.calibrationError = sure == 0 ? nil : binned.reduce(0.0) { $0 + abs($1.probability - Double($1.right)) } / Double(sure)
        if let counts = schema.classCounts, let most = counts.indices.max(by: { (counts[$0], $1) < (counts[$1], $0) }), most < count {
            result.guessing = Evaluation.Guessing(prediction: schema.classes[most], accuracy: Double(rows[most]) / all)
        }
    }

    private func regress(_ result: inout Evaluation) {
        let all = Double(samples)
        let std = target?.std ?? 1
        result.loss = (squares / all / (std * std)).finite
        result.rmse = (squares / all).squareRoot().finite
        result.mae = (errors / all).finite
        let total = sumOfSquares - sum * sum / all
        result.r2 = total > 0 ? (1 - squares / total).finite : nil
        result.predictions = pairs.filter { $0.actual.isFinite && $0.predicted.isFinite }
        result.guessing = Evaluation.Guessing(
            prediction: "\(target?.mean ?? 0)", rmse: (guessSquares / all).squareRoot().finite, mae: (guessErrors / all).finite)
    }
}

extension Double {
    fileprivate var finite: Double? { isFinite ? self : nil }
}
