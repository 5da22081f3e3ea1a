import CKernels
public import CohortCore

/// Inspects an update as it streams by: whether every value is finite, how long its change of the round's weights is, and how long each of
/// its streams is.
public struct UpdateInspection: Sendable {
    private let start: [Float]?
    private let parameterCount: Int
    private let streams: [String]
    /// The stream of squares, whose values must not be negative; nil if the layout has none.
    private let squared: Int?
    private var position = 0
    /// Sums of the change of the weights, then of each stream: four each, of every fourth number. They do not depend on the pieces in which it streams by.
    private var sums: [Double]

    /// - Parameter start: the weights that the update started from; nil measures the update itself.
    public init(_ layout: WeightsLayout, start: [Float]?) {
        self.start = start
        parameterCount = layout.model.parameterCount
        streams = layout.streams
        squared = streams.firstIndex(of: "exp_avg_sq")
        sums = [Double](repeating: 0, count: 4 * (1 + streams.count))
    }

    /// - Throws: ``CohortError`` `invalid` for NaN, infinities, and squares below 0.
    public mutating func feed(_ values: [Float]) throws { try values.withUnsafeBufferPointer { try feed($0) } }

    /// - Throws: ``CohortError`` `invalid` for NaN, infinities, and squares below 0.
    public mutating func feed(_ values: UnsafeBufferPointer<Float>) throws {
        var values = values
        while !values.isEmpty {
            let within = position % max(1, parameterCount)
            // Up to a place from which on every fourth number belongs to the first sum, then up to the end of the weights, or of the stream.
            let some = min(values.count, within % 4 == 0 ? max(1, parameterCount) - within : 1)
            try add(UnsafeBufferPointer(rebasing: values[..<some]), at: within)
            position += some
            values = UnsafeBufferPointer(rebasing: values[some...])
        }
    }

    /// - Parameter within: their place in the weights, or in their stream.
    private mutating func add(_ values: UnsafeBufferPointer<Float>, at within: Int) throws {
        let region = position / max(1, parameterCount)
        guard region <= streams.count else { return }
        let isSquares = region > 0 && region - 1 == squared
        let places = (0..<4).map { 4 * region + (within + $0) % 4 }
        var some = places.map { sums[$0] }
        let found = some.withUnsafeMutableBufferPointer { inspect(values, at: within, isSquares: isSquares, into: $0.baseAddress) }
        for (place, sum) in zip(places, some) { sums[place] = sum }
        if found & 1 != 0, let index = values.firstIndex(where: { !$0.isFinite }) {
            throw CohortError(.invalid, "the update holds \(values[index]) at parameter \(position + index)")
        }
        if isSquares, found & 2 != 0, let index = values.firstIndex(where: { $0 < 0 }) {
            throw CohortError(.invalid, "the update holds \(values[index]) at \(position + index), where the optimizer has squares")
        }
    }

    private func inspect(
        _ values: UnsafeBufferPointer<Float>, at within: Int, isSquares: Bool, into sums: UnsafeMutablePointer<Double>?
    ) -> UInt32 {
        guard let start, position < parameterCount, start.count >= within + values.count else {
            return cohort_inspect(sums, values.baseAddress, nil, values.count, !isSquares)
        }
        return start.withUnsafeBufferPointer { start in
            cohort_inspect(sums, values.baseAddress, start.baseAddress.map { $0 + within }, values.count, true)
        }
    }

    private func sum(_ region: Int) -> Double { sums[4 * region] + sums[4 * region + 1] + (sums[4 * region + 2] + sums[4 * region + 3]) }

    /// The L2 norm of the change of the weights alone.
    public var norm: Double { sum(0).squareRoot() }

    /// The L2 norm of each stream, by its name; of a stream of squares that of their roots.
    public var streamNorms: [String: Double] {
        Dictionary(streams.enumerated().map { ($1, sum(1 + $0).squareRoot()) }) { first, _ in first }
    }
}
