import CKernels
import CohortCore

/// Decides the scaling of each numeric column.
enum ScalingRules {
    /// Columns of one range, such as the pixels of pictures, are at least so many.
    private static let fewestOfOneRange = 8

    /// Sets shift and scale of the numeric columns.
    /// - Returns: what to say of it.
    static func apply(_ scaling: Scaling, to schema: inout TableSchema, moments: [Moments], sample: RowSample) -> [String] {
        let numeric = schema.columns.indices.filter { schema.columns[$0].kind == .numeric }
        guard scaling == .auto else {
            for index in numeric { set(scaling, of: &schema.columns[index], moments: moments[index], sorted: sample.sorted(index)) }
            return []
        }
        var said: [String] = []
        let pixels = oneRange(numeric, moments)
        if let (indices, range, deviation) = pixels {
            // Each keeps its own mean, so that what is missing stays the mean.
            for index in indices {
                (schema.columns[index].shift, schema.columns[index].scale, schema.columns[index].scaling) = (
                    moments[index].mean, deviation, .auto
                )
            }
            said.append(
                "\(indices.count) columns have one range, \(Cell.label(range.lowerBound)) to \(Cell.label(range.upperBound)): they are scaled by their common deviation (--scaling standard: each by its own)"
            )
        }
        let rest = numeric.filter { pixels?.indices.contains($0) != true && isNearlyOneValue(moments[$0], sample.sorted($0)) }
        for index in rest { set(.range, of: &schema.columns[index], moments: moments[index], sorted: []) }
        if !rest.isEmpty {
            let names = rest.prefix(5).map { "'\(schema.columns[$0].name)'" }.joined(separator: ", ") + (rest.count > 5 ? ", …" : "")
            said.append(
                "\(names) \(rest.count == 1 ? "is" : "are") nearly always one value: scaled by range, as deviations would make the others huge"
            )
        }
        return said
    }

    private static func set(
        _ scaling: Scaling, of column: inout TableSchema.Column, moments: Moments, sorted: [Double]
    ) {
        switch scaling {
        case .auto, .standard: return
        case .range:
            (column.shift, column.scale) = (moments.least, moments.largest - moments.least)
        case .robust:
            guard let median = quantile(sorted, 0.5), let low = quantile(sorted, 0.25), let high = quantile(sorted, 0.75), high > low else {
                return
            }
            (column.shift, column.scale) = (median, high - low)
        case .none: (column.shift, column.scale) = (0, 1)
        }
        column.scaling = scaling
        if let divisor = column.scale, !(divisor > 0 && divisor.isFinite) { (column.shift, column.scale, column.scaling) = (nil, nil, nil) }
    }

    /// The deviation of all values of the columns together.
    private static func pooledDeviation(_ columns: [Moments]) -> Double {
        let count = Double(columns.count)
        let mean = columns.reduce(0) { $0 + $1.mean } / count
        let variance = columns.reduce(0) { $0 + $1.deviation * $1.deviation + ($1.mean - mean) * ($1.mean - mean) } / count
        return variance.squareRoot()
    }

    private static func quantile(_ sorted: [Double], _ share: Double) -> Double? {
        guard !sorted.isEmpty else { return nil }
        let place = share * Double(sorted.count - 1)
        let below = Int(place)
        guard below + 1 < sorted.count else { return sorted[below] }
        return sorted[below] + (place - Double(below)) * (sorted[below + 1] - sorted[below])
    }

    /// The distance of the farthest value from the mean, in deviations.
    private static func reach(_ moments: Moments) -> Double {
        max(moments.largest - moments.mean, moments.mean - moments.least) / max(moments.deviation, .leastNormalMagnitude)
    }

    /// Columns that begin at one value and, at least half of them, end at one, where some are so often one value that their others would be
    /// more than ten deviations away.
    private static func oneRange(_ numeric: [Int], _ moments: [Moments]) -> (
        indices: Set<Int>, range: ClosedRange<Double>, deviation: Double
    )? {
        let byLeast = Dictionary(grouping: numeric) { moments[$0].least }
        guard let (least, indices) = byLeast.max(by: { ($0.value.count, $1.key) < ($1.value.count, $0.key) }),
            indices.count >= fewestOfOneRange, let largest = indices.map({ moments[$0].largest }).max(), largest > least,
            indices.count(where: { moments[$0].largest == largest }) * 2 >= indices.count,
            indices.count(where: { reach(moments[$0]) > 10 }) * 20 >= indices.count
        else { return nil }
        let deviation = pooledDeviation(indices.map { moments[$0] })
        // Numbers that are too large to square have none in common.
        return deviation > 0 && deviation.isFinite ? (Set(indices), least...largest, deviation) : nil
    }

    private static func isNearlyOneValue(_ moments: Moments, _ sorted: [Double]) -> Bool {
        guard reach(moments) > 8, sorted.count >= 50 else { return false }
        var longest = 0
        var run = 0
        for (index, value) in sorted.enumerated() {
            run = index > 0 && value == sorted[index - 1] ? run + 1 : 1
            longest = max(longest, run)
        }
        return longest * 50 >= sorted.count * 49
    }
}
