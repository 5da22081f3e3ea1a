import CohortCore
import CohortPeer
import CohortWire
import Synchronization

/// The display of `cohort peer` on a terminal: one line, redrawn in place; lasting messages stay above it.
final class PeerDisplay: Sendable {
    private struct State {
        var hasLine = false
        var name = ""
        /// Rounds that this peer has trained in the session it is in.
        var rounds: (session: String, count: Int)?
    }

    private let server: String
    private let width: @Sendable () -> Int
    private let write: @Sendable (String) -> Void
    private let state = Mutex(State())

    /// - Parameter write: writes to the terminal, without adding a line break.
    init(server: String, width: @escaping @Sendable () -> Int, write: @escaping @Sendable (String) -> Void) {
        self.server = server
        self.width = width
        self.write = write
    }

    /// Called from wherever the work is, in order.
    func show(_ activity: PeerActivity) {
        state.withLock { state in
            switch activity {
            case .waitingForServer(let why): line(&state, "waiting for the server: \(why)")
            case .joined(let name):
                state.name = name
                keep(&state, "\(name) has joined \(server)")
                line(&state, "waiting for work; Ctrl-C leaves")
            case .loading(let bytes): line(&state, "fetching \(Figure.bytes(bytes)) of data")
            case .epoch(let beat, let epochs):
                let accuracy = beat.accuracy.map { ", accuracy \(Figure.percent($0))" } ?? ""
                let speed = beat.samplesPerSecond.map { ", \(Figure.whole(Int(min($0, 1e15)))) samples/s" } ?? ""
                line(
                    &state,
                    "session \(short(beat.sessionId)): round \(beat.round + 1), epoch \(beat.epoch)/\(epochs), loss \(Figure.decimal(beat.loss))\(accuracy)\(speed)"
                )
            case .round(let done):
                let before = state.rounds.flatMap { $0.session == done.sessionId ? $0.count : nil } ?? 0
                state.rounds = (done.sessionId, before + (done.results.samples > 0 ? 1 : 0))
            case .failed(let session, let message): keep(&state, "session \(short(session)): \(message)")
            case .released(let session):
                let count = state.rounds.flatMap { $0.session == session ? $0.count : nil } ?? 0
                keep(
                    &state,
                    "session \(short(session)) is over for this machine, which trained in \(count) \(count == 1 ? "round" : "rounds")")
                line(&state, "waiting for work; Ctrl-C leaves")
            case .left: keep(&state, "left \(server)")
            }
        }
    }

    private func short(_ session: String) -> String { String(session.prefix(8)).printable(max: 8) }

    /// Replaces the line.
    private func line(_ state: inout State, _ text: String) {
        // One that wraps could not be redrawn.
        write("\(state.hasLine ? "\r\u{1B}[K" : "")\(text.prefix(max(20, width() - 1)))")
        state.hasLine = true
    }

    /// A line that stays.
    private func keep(_ state: inout State, _ text: String) {
        write("\(state.hasLine ? "\r\u{1B}[K" : "")\(text)\n")
        state.hasLine = false
    }
}
