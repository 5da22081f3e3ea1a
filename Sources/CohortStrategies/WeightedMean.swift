import CohortCore

/// The weighted mean of flat parameter vectors, fed a piece at a time: it holds one model, whatever the number of peers. Fed in the same
/// order it gives the same bits.
public struct WeightedMean: Sendable {
    private var sums: [Double]
    private var position = 0
    private var weight = 0.0

    public init(parameterCount: Int) { sums = [Double](repeating: 0, count: parameterCount) }

    /// Begins the next update.
    public mutating func begin(weight: Double) {
        self.weight = weight
        position = 0
    }

    /// The next values of the update, in the order of the flat vector.
    public mutating func feed(_ values: [Float]) throws {
        guard position + values.count <= sums.count else {
            throw CohortError(.invalid, "the update has more than \(sums.count) parameters")
        }
        for value in values {
            sums[position] += weight * Double(value)
            position += 1
        }
    }

    public var mean: [Float] { sums.map { Float($0) } }
}

/// Looks at an update as it streams by: whether every value is a number, and how long the step from the weights it started from is.
public struct UpdateInspection: Sendable {
    private let start: [Float]?
    private var position = 0
    private var squares = 0.0

    /// - Parameter start: the weights it started from; nil: its own norm counts.
    public init(start: [Float]?) { self.start = start }

    /// - Throws: ``CohortError`` `invalid` for NaN and infinities.
    public mutating func feed(_ values: [Float]) throws {
        for value in values {
            guard value.isFinite else { throw CohortError(.invalid, "the update holds \(value) at parameter \(position)") }
            let difference = Double(value) - Double(start.map { position < $0.count ? $0[position] : 0 } ?? 0)
            squares += difference * difference
            position += 1
        }
    }

    /// L2.
    public var norm: Double { squares.squareRoot() }
}
