import CohortWire

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Limits a peer to a share of its machine: after each stretch of work it pauses in proportion, so that others can use the
/// machine. Lives on the training thread, which it blocks.
final class LoadLimiter {
    /// The share of the time, 0 < share ≤ 1.
    private let share: Double
    private let clock = ContinuousClock()
    private var workedSince: ContinuousClock.Instant

    /// Work shorter than this is not paused after: a sleep has a price too.
    private static let shortest = Duration.milliseconds(2)
    /// Pauses are cut into pieces, so that a peer can be stopped.
    private static let piece = Duration.milliseconds(50)

    init(percent: Int) {
        share = Double(min(max(percent, 1), 100)) / 100
        workedSince = clock.now
    }

    /// Work begins: what passed until now was not work.
    func begin() { workedSince = clock.now }

    /// Between two batches: pauses for what the work since the last pause costs.
    func pause(while isWanted: () -> Bool) {
        guard share < 1 else { return }
        let worked = clock.now - workedSince
        guard worked >= Self.shortest else { return }
        let until = clock.now + worked * (1 / share - 1)
        while isWanted() {
            let left = until - clock.now
            guard left > .zero else { break }
            Self.sleep(min(left, Self.piece))
        }
        workedSince = clock.now
    }

    /// Between two pieces of work: reports progress and pauses as the load limit asks.
    /// - Returns: false once the work is not wanted any more.
    func shouldContinue(_ control: RunControl, progress: ProgressReporter, phase: ProgressEvent.Phase) -> Bool {
        progress.sign(phase)
        pause {
            progress.sign(phase)
            return !control.isStopped
        }
        return !control.isStopped
    }

    private static func sleep(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        nanosleep(&time, nil)
    }
}
