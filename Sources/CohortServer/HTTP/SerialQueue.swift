import DequeModule

/// Runs operations one after another, in the order of their calls.
actor SerialQueue {
    private var isBusy = false
    private var waiting: Deque<CheckedContinuation<Void, Never>> = []

    func run<Value: Sendable>(_ operation: @Sendable () async throws -> Value) async rethrows -> Value {
        if isBusy { await withCheckedContinuation { waiting.append($0) } }
        isBusy = true
        // The next one in the queue keeps it busy.
        defer { if let next = waiting.popFirst() { next.resume() } else { isBusy = false } }
        return try await operation()
    }
}
