import CohortCore

/// Values that lie far from all others, as a slip of a digit or another unit makes them: told by the quartiles, which a few such values do not move.
struct FarValues {
    /// The quartiles of a sorted sample.
    private let quartiles: (first: Double, third: Double)
    /// The distance beyond the quartiles, in interquartile ranges, from which on a value is far; and the same of logarithms, for
    /// quantities that spread over many sizes, as incomes do.
    private static let (far, farInLogarithms) = (30.0, 5.0)

    /// - Returns: nil for fewer than 20 values, and where more than half of the values are one.
    init?(_ sorted: [Double]) {
        guard sorted.count >= 20 else { return nil }
        quartiles = (sorted[sorted.count / 4], sorted[sorted.count * 3 / 4])
        guard quartiles.third > quartiles.first else { return nil }
    }

    func isFar(_ value: Double) -> Bool {
        let (first, third) = quartiles
        let range = third - first
        guard value > third + Self.far * range || value < first - Self.far * range else { return false }
        guard first > 0, value > 0, let logarithms = Self.octaves(third / first),
            let distance = Self.octaves(max(value / third, first / value))
        else { return true }
        return distance > Self.farInLogarithms * logarithms
    }

    /// Brings a value to the outermost that is not far in a plain sense.
    func clipped(_ value: Double) -> Double {
        let range = quartiles.third - quartiles.first
        return min(max(value, quartiles.first - 10 * range), quartiles.third + 10 * range)
    }

    /// About log2, of a ratio above 1.
    private static func octaves(_ ratio: Double) -> Double? {
        ratio > 1 && ratio.isFinite ? Double(ratio.exponent) + ratio.significand - 1 : nil
    }
}

/// The outermost values of a column and the lines that they are on.
struct Extremes {
    private static let kept = 3
    private(set) var largest: [(value: Double, line: Int)] = []
    private(set) var least: [(value: Double, line: Int)] = []

    mutating func add(_ value: Double, line: Int) {
        if largest.count < Self.kept || value > largest[largest.count - 1].value {
            largest.append((value, line))
            largest.sort { ($1.value, $0.line) < ($0.value, $1.line) }
            if largest.count > Self.kept { largest.removeLast() }
        }
        if least.count < Self.kept || value < least[least.count - 1].value {
            least.append((value, line))
            least.sort { ($0.value, $0.line) < ($1.value, $1.line) }
            if least.count > Self.kept { least.removeLast() }
        }
    }
}
