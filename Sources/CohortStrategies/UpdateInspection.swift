public import CohortCore

/// Looks at an update as it streams by: whether every value is a number, and how long the step from the weights it started from is.
public struct UpdateInspection: Sendable {
    private let start: [Float]?
    private let parameterCount: Int
    /// Of squares, which a lie about would make every peer's next steps no numbers.
    private let squared: Range<Int>?
    private var position = 0
    private var squares = 0.0

    /// - Parameter start: the weights it started from; nil: its own norm counts.
    public init(_ layout: WeightsLayout, start: [Float]?) {
        self.start = start
        parameterCount = layout.model.parameterCount
        squared = layout.streams.firstIndex(of: "exp_avg_sq").map { [parameterCount] in
            ((1 + $0) * parameterCount)..<((2 + $0) * parameterCount)
        }
    }

    /// - Throws: ``CohortError`` `invalid` for NaN, infinities, and squares below 0.
    public mutating func feed(_ values: [Float]) throws {
        for value in values {
            guard value.isFinite else { throw CohortError(.invalid, "the update holds \(value) at parameter \(position)") }
            guard position < parameterCount else {
                if value < 0, squared?.contains(position) == true {
                    throw CohortError(.invalid, "the update holds \(value) at \(position), where the optimizer has squares")
                }
                position += 1
                continue
            }
            let difference = Double(value) - Double(start.map { position < $0.count ? $0[position] : 0 } ?? 0)
            squares += difference * difference
            position += 1
        }
    }

    /// L2, of the weights alone.
    public var norm: Double { squares.squareRoot() }
}
