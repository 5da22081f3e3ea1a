/// Consecutive faults of one session. The count starts again after a round was stored, or after a minute in which the session ran and was stored.
struct Faults {
    /// The number of consecutive faults after which the session fails.
    let limit: Int
    private(set) var count = 0
    private(set) var last = ""

    /// The session's progress, which shows whether it recovered.
    struct Progress: Hashable, Sendable {
        var round = 0
        /// The number of times its document was stored.
        var stores = 0
        /// Seconds, monotonic.
        var at = 0.0
    }

    private var before = Progress()

    /// The seconds after which a session that runs has recovered.
    static let healthySeconds = 60.0

    init(limit: Int) { self.limit = limit }

    /// The session goes on after a pause: what it does from here on counts as recovery.
    mutating func begin(at progress: Progress) { before = progress }

    /// Faults count whatever their text is: two that alternate are as bad as one that repeats.
    mutating func add(_ fault: String, at progress: Progress) {
        let hasRun = progress.stores > before.stores && progress.at - before.at >= Self.healthySeconds
        count = progress.round > before.round || hasRun ? 1 : count + 1
        last = fault
    }

    /// The reason for which the session fails; nil: it is retried.
    var fatal: String? { count >= limit ? "the server could not go on after \(count) tries: \(last)" : nil }

    /// Seconds until the next try.
    var pause: Double { min(0.5 * Double(1 << min(count, 5)), 15) }
}
