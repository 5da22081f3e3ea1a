import CohortCore
import CohortWire
import Synchronization

/// The ordered queue of a session's only consumer. It takes all items at once, so that a burst of events is stored once.
final class Mailbox: Sendable {
    enum Item: Sendable {
        case event(ReceivedEvent)
        /// The document or the peers may have changed.
        case look
        case tick
        /// Answers have waited long enough for their round to close.
        case due
        /// Another coordinator has taken over the session.
        case leaseLost
        /// The event queue's stream ended, for this reason.
        case queueEnded(String)
    }

    private struct State {
        var items: [Item] = []
        var waiter: CheckedContinuation<Void, Never>?
        var isClosed = false
        /// Several looks are one.
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
            case .event, .due, .queueEnded, .leaseLost: break
            }
            state.items.append(item)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func putDue(in seconds: Double, by time: any TimeSource) {
        // Nothing cancels this task, so the sleep does not throw.
        Task {
            try? await time.sleep(seconds: seconds)
            put(.due)
        }
    }

    func close() {
        let waiter = state.withLock { state in
            state.isClosed = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// A look was requested and not taken.
    var hasUnseenLook: Bool { state.withLock { $0.looks } }

    /// Removes all items.
    func drop() {
        state.withLock { state in
            state.items = []
            state.looks = false
            state.ticks = false
        }
    }

    /// Returns all items, after waiting for the first one; empty once the mailbox is closed.
    func nextItems() async -> [Item] {
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
