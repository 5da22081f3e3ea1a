/// Sums over samples, so that slices evaluated by different peers add up exactly to the whole.
public struct Counts: Codable, Hashable, Sendable {
    public var samples: Int
    /// Sum over samples of the loss: cross-entropy in nats, or the squared error of the standardized target.
    public var lossSum: Double
    /// Classification: rows predicted right.
    public var correct: Int
    /// Regression: sum and sum of squares of the standardized target, for R².
    public var targetSum: Double
    public var targetSquareSum: Double

    public init(samples: Int = 0, lossSum: Double = 0, correct: Int = 0, targetSum: Double = 0, targetSquareSum: Double = 0) {
        self.samples = samples
        self.lossSum = lossSum
        self.correct = correct
        self.targetSum = targetSum
        self.targetSquareSum = targetSquareSum
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        samples = try container.whole(.samples, in: Bounds.samples)
        lossSum = try container.magnitude(.lossSum)
        correct = try container.whole(.correct, in: 0...max(samples, 0))
        targetSum = try container.magnitude(.targetSum)
        targetSquareSum = try container.magnitude(.targetSquareSum)
        // A sum of logarithms of probabilities may miss 0 by rounding.
        if lossSum < 0, lossSum > -1e-3 { lossSum = 0 }
        guard lossSum >= 0, targetSquareSum >= 0 else {
            throw DecodingError.dataCorruptedError(
                forKey: .lossSum, in: container, debugDescription: "loss_sum and target_square_sum must not be negative")
        }
    }

    public static func + (a: Counts, b: Counts) -> Counts {
        Counts(
            samples: a.samples + b.samples, lossSum: a.lossSum + b.lossSum, correct: a.correct + b.correct,
            targetSum: a.targetSum + b.targetSum, targetSquareSum: a.targetSquareSum + b.targetSquareSum)
    }

    /// Mean loss a sample; nil without samples.
    public var loss: Double? { samples > 0 ? lossSum / Double(samples) : nil }
    /// Share of samples predicted right; nil without samples.
    public var accuracy: Double? { samples > 0 ? Double(correct) / Double(samples) : nil }
    /// Coefficient of determination, 1 − SSE/SST; nil when the targets do not vary.
    public var r2: Double? {
        guard samples > 0 else { return nil }
        let total = targetSquareSum - targetSum * targetSum / Double(samples)
        return total > 0 ? 1 - lossSum / total : nil
    }

    public func metrics(_ task: LearningTask) -> Metrics {
        Metrics(
            loss: loss, accuracy: task == .classification ? accuracy : nil, r2: task == .regression ? r2 : nil, samples: samples)
    }
}

/// Metrics for people. A value that is not finite (a diverged model) is nil, as JSON has no NaN.
public struct Metrics: Codable, Hashable, Sendable {
    public var loss: Double?
    /// Classification only, 0 … 1.
    public var accuracy: Double?
    /// Regression only, at most 1.
    public var r2: Double?
    public var samples: Int

    public init(loss: Double?, accuracy: Double? = nil, r2: Double? = nil, samples: Int) {
        self.loss = loss.finite
        self.accuracy = accuracy.finite
        self.r2 = r2.finite
        self.samples = samples
    }
}

extension Double? {
    fileprivate var finite: Double? { self.flatMap { $0.isFinite ? $0 : nil } }
}

extension Counts {
    /// Returns whether a peer's report on the same model differs by more than engines do, and by more than chance where other rows were measured.
    public func contradicts(_ said: Counts, _ task: LearningTask) -> Bool {
        guard samples > 0, said.samples > 0, let loss, let claimed = said.loss else { return false }
        if samples == said.samples {
            return abs(loss - claimed) > 0.01 * (1 + abs(loss)) || abs(correct - said.correct) > 1 + samples / 100
        }
        // A sample: five standard deviations of a share, or a loss of another size.
        if task == .classification, let a = accuracy, let b = said.accuracy {
            let spread = (max(a * (1 - a), 0.01) / Double(samples)).squareRoot()
            if abs(a - b) > 5 * spread + 0.01 { return true }
        }
        return claimed < loss / 3 - 0.01 || claimed > loss * 3 + 0.01
    }
}
