import CohortCore
import Synchronization

/// Links that were used or closed before they expire, which a signature cannot express.
final class LinkGate: Sendable {
    private enum Put {
        case underWay
        case done(sha256: String)
    }

    private struct State {
        /// The puts by key.
        var puts: [String: Put] = [:]
        /// Newest last.
        var closed: [String] = []
        var closedScopes: [String] = []
    }

    /// The maximum number of closed prefixes; the oldest are forgotten, as their links have expired.
    private static let maxClosed = 10_000

    private let state = Mutex(State())

    func close(prefix: String) {
        state.withLock { state in
            state.puts = state.puts.filter { !$0.key.hasPrefix(prefix) }
            guard !state.closed.contains(prefix) else { return }
            state.closed.append(prefix)
            if state.closed.count > Self.maxClosed { state.closed.removeFirst(state.closed.count - Self.maxClosed) }
        }
    }

    func close(scope: String) {
        state.withLock { state in
            guard !state.closedScopes.contains(scope) else { return }
            state.closedScopes.append(scope)
            if state.closedScopes.count > Self.maxClosed { state.closedScopes.removeFirst() }
        }
    }

    func check(_ key: String, scope: String?) throws {
        let isOpen = state.withLock { state in
            !state.closed.contains { key.hasPrefix($0) } && scope.map { !state.closedScopes.contains($0) } ?? true
        }
        guard isOpen else {
            throw CohortError(.forbidden, "the link was closed: its round or its session is over")
        }
    }

    func begin(_ key: String) throws -> String? {
        try state.withLock { state in
            switch state.puts[key] {
            case .underWay: throw CohortError(.unavailable, "the object is being written by this link: try again when that has ended")
            case .done(let sha256): return sha256
            case nil:
                state.puts[key] = .underWay
                return nil
            }
        }
    }

    func end(_ key: String, sha256: String?) {
        state.withLock { state in
            guard case .underWay = state.puts[key] else { return }
            state.puts[key] = sha256.map { .done(sha256: $0) }
        }
    }
}
