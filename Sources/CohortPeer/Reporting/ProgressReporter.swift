import CohortCore
import CohortWire
import Synchronization

/// Says that work goes on while a phase takes long: a PROGRESS event every few seconds, none for what is done in a moment. Called from
/// wherever the work is; never blocks.
final class ProgressReporter: Sendable {
    private let sessionId: String
    private let peerId: String
    private let generation: Int
    private let interval: Duration
    private let report: @Sendable (PeerEvent) -> Void
    private let last = Mutex(ContinuousClock.now)

    /// - Parameter within: seconds within which the coordinator wants a sign; nil: it did not say.
    init(sessionId: String, peerId: String, generation: Int, within: Double?, report: @escaping @Sendable (PeerEvent) -> Void) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.generation = generation
        // A few tries within the time, so that one that is lost does no harm.
        interval = .seconds(min(max((within ?? 20) / 4, 0.1), 5))
        self.report = report
    }

    /// Another event has just said so.
    func restart() { last.withLock { $0 = .now } }

    /// - Parameter progress: of the phase, 0 … 1.
    func sign(_ phase: ProgressEvent.Phase, _ progress: @autoclosure () -> Double = 0) {
        let isDue = last.withLock { last in
            let now = ContinuousClock.now
            guard now - last >= interval else { return false }
            last = now
            return true
        }
        guard isDue else { return }
        let value = progress()
        report(
            .progress(
                ProgressEvent(
                    sessionId: sessionId, peerId: peerId, generation: generation, phase: phase,
                    progress: value.isFinite ? min(max(value, 0), 1) : 0)))
    }
}
