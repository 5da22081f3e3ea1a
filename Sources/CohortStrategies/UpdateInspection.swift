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
    private var squares = 0.0
    private var streamSquares: [Double]

    /// - Parameter start: the weights that the update started from; nil measures the update itself.
    public init(_ layout: WeightsLayout, start: [Float]?) {
        self.start = start
        parameterCount = layout.model.parameterCount
        streams = layout.streams
        squared = streams.firstIndex(of: "exp_avg_sq")
        streamSquares = streams.map { _ in 0 }
    }

    /// - Throws: ``CohortError`` `invalid` for NaN, infinities, and squares below 0.
    public mutating func feed(_ values: [Float]) throws {
        for value in values {
            guard value.isFinite else { throw CohortError(.invalid, "the update holds \(value) at parameter \(position)") }
            if position < parameterCount {
                let difference = Double(value) - Double(start.map { position < $0.count ? $0[position] : 0 } ?? 0)
                squares += difference * difference
            } else {
                try feed(streamValue: value)
            }
            position += 1
        }
    }

    private mutating func feed(streamValue value: Float) throws {
        let stream = position / max(1, parameterCount) - 1
        guard streamSquares.indices.contains(stream) else { return }
        guard stream == squared else {
            streamSquares[stream] += Double(value) * Double(value)
            return
        }
        guard value >= 0 else {
            throw CohortError(.invalid, "the update holds \(value) at \(position), where the optimizer has squares")
        }
        streamSquares[stream] += Double(value)
    }

    /// The L2 norm of the change of the weights alone.
    public var norm: Double { squares.squareRoot() }

    /// The L2 norm of each stream, by its name; of a stream of squares that of their roots.
    public var streamNorms: [String: Double] {
        Dictionary(zip(streams, streamSquares.map { $0.squareRoot() })) { first, _ in first }
    }
}
