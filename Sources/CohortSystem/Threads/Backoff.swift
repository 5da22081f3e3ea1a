/// Waits between attempts: 0.2 s, doubled each time up to 10 s, each drawn from the upper half of its span so that many who lost
/// the same server do not come back at the same instant.
public struct Backoff: Sendable {
    private let first: Double
    private let longest: Double
    private var attempts = 0

    /// - Parameters: in seconds.
    public init(first: Double = 0.2, longest: Double = 10) {
        self.first = first
        self.longest = longest
    }

    /// The next waiting time.
    public mutating func next() -> Duration {
        var generator = SystemRandomNumberGenerator()
        return next(using: &generator)
    }

    mutating func next(using generator: inout some RandomNumberGenerator) -> Duration {
        let span = min(longest, first * Double(1 << min(attempts, 30)))
        attempts += 1
        return .seconds(Double.random(in: span / 2...span, using: &generator))
    }

    /// It went well: the next failure starts from the shortest wait.
    public mutating func reset() { attempts = 0 }
}
