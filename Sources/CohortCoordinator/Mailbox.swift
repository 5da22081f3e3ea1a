import CohortCore
import Synchronization

/// What a session's one consumer is to look at, in order. Taking it takes all there is, so that a flood is stored once.
final class Mailbox: Sendable {
    enum Item: Sendable {
        case event(ReceivedEvent)
        /// The document or the peers may have changed from outside.
        case look
        case tick
        /// Another coordinator has taken the session over.
        case leaseLost
        /// The event queue's stream ended, and why.
        case queueEnded(String)
    }

    private struct State {
        var items: [Item] = []
        var waiter: CheckedContinuation<Void, Never>?
        var isClosed = false
        /// One look is as good as many.
        var looks = false
        var ticks = false
    }

    private let state = Mutex(State())

    func put(_ item: Item) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.isClosed else { return nil }
            switch item {
            case .look:
                guard !state.looks else { return nil }
                state.looks = true
            case .tick:
                guard !state.ticks else { return nil }
                state.ticks = true
            case .event, .queueEnded, .leaseLost: break
            }
            state.items.append(item)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func close() {
        let waiter = state.withLock { state in
            state.isClosed = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// Whether somebody asked for a look that was not taken.
    var hasUnseenLook: Bool { state.withLock { $0.looks } }

    /// Forgets what waits.
    func drop() {
        state.withLock { state in
            state.items = []
            state.looks = false
            state.ticks = false
        }
    }

    /// All that is there; waits until there is something. Empty: closed.
    func take() async -> [Item] {
        await withTaskCancellationHandler {
            while true {
                let items = state.withLock { state -> [Item]? in
                    guard state.items.isEmpty else {
                        defer {
                            state.items = []
                            state.looks = false
                            state.ticks = false
                        }
                        return state.items
                    }
                    return state.isClosed ? [] : nil
                }
                if let items { return items }
                await withCheckedContinuation { continuation in
                    let ready = state.withLock { state in
                        guard state.items.isEmpty, !state.isClosed else { return true }
                        state.waiter = continuation
                        return false
                    }
                    if ready { continuation.resume() }
                }
            }
        } onCancel: {
            close()
        }
    }
}
