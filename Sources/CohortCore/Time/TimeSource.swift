public import FoundationEssentials

/// Time as a parameter: the system's outside tests, one that a test moves inside them.
public protocol TimeSource: Sendable {
    /// The wall clock, for users and for leases between machines. It may step.
    var date: Date { get }
    /// Seconds on a clock that never goes back; its zero means nothing.
    var monotonic: Double { get }
    /// - Throws: `CancellationError`.
    func sleep(seconds: Double) async throws
}

/// The system's time.
public struct SystemTime: TimeSource {
    private let begun = ContinuousClock.now

    public init() {}

    public var date: Date { Date() }
    public var monotonic: Double { (ContinuousClock.now - begun) / .seconds(1) }
    public func sleep(seconds: Double) async throws { try await Task.sleep(for: .seconds(seconds)) }
}

/// A moment of a session's run: `date` for people, `seconds` for every decision.
public struct Moment: Hashable, Sendable {
    public var date: Date
    /// Since the run began, on its ``RunClock``.
    public var seconds: Double

    public init(date: Date, seconds: Double) {
        self.date = date
        self.seconds = seconds
    }
}

/// The clock of one run of a session. It counts only time in which the run was looked after: while the process was stopped, the machine
/// asleep or the run busy with an aggregation, no peer is late.
public struct RunClock: Sendable {
    /// The most that passes between two looks; a run looks several times a second.
    public static let maxStep = 2.0

    private let time: any TimeSource
    private var last: Double
    private var seconds = 0.0

    public init(_ time: any TimeSource) {
        self.time = time
        last = time.monotonic
    }

    /// The present moment.
    public mutating func now() -> Moment {
        let current = time.monotonic
        seconds += min(max(current - last, 0), Self.maxStep)
        last = current
        return Moment(date: time.date, seconds: seconds)
    }
}
