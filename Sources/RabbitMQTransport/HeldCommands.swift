import CohortWire
import Synchronization

/// The unacknowledged commands of a peer that connects by HTTP, and the stream that delivers them.
final class HeldCommands: Sendable {
    typealias Continuation = AsyncThrowingStream<QueuedCommand, any Error>.Continuation

    private struct Entry {
        var command: QueuedCommand
        var tag: UInt64
        var connection: Int
    }

    private struct State {
        var entries: [Entry] = []
        var continuation: Continuation?
        var name: String?
        var hasEnded = false
    }

    private let state = Mutex(State())

    /// Starts a stream with the unacknowledged commands; an older stream ends.
    func attach(_ continuation: Continuation) {
        let older = state.withLock { state in
            guard !state.hasEnded else { return continuation as Continuation? }
            defer { state.continuation = continuation }
            for entry in state.entries { continuation.yield(entry.command) }
            return state.continuation
        }
        older?.finish()
    }

    func add(_ command: QueuedCommand, tag: UInt64, connection: Int) {
        state.withLock { state in
            // Those of an earlier connection come again by this one.
            if let last = state.entries.last, last.connection != connection { state.entries.removeAll() }
            state.entries.append(Entry(command: command, tag: tag, connection: connection))
            state.continuation?.yield(command)
        }
    }

    func remove(through id: Int) -> [(tag: UInt64, connection: Int)] {
        state.withLock { state in
            defer { state.entries.removeAll { $0.command.id <= id } }
            return state.entries.filter { $0.command.id <= id }.map { ($0.tag, $0.connection) }
        }
    }

    func name(_ name: String) { state.withLock { $0.name = name } }
    func name() -> String? { state.withLock { $0.name } }

    func end() {
        let continuation = state.withLock { state in
            state.hasEnded = true
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.finish()
    }
}
