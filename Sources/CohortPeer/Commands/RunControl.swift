import Synchronization

/// Tells running work that it is not wanted any more: from anywhere, seen before the next batch.
final class RunControl: Sendable {
    private let stopped = Atomic<Bool>(false)
    private let handler = Mutex<(@Sendable () -> Void)?>(nil)
    private let stream: AsyncStream<Never>
    private let continuation: AsyncStream<Never>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

    var isStopped: Bool { stopped.load(ordering: .relaxed) }

    func stop() {
        stopped.store(true, ordering: .relaxed)
        continuation.finish()
        handler.withLock { $0?() }
    }

    /// - Throws: `CancellationError` when the work is not wanted any more.
    func check() throws {
        if isStopped { throw CancellationError() }
    }

    /// Called when the work is stopped, at once if it is already; nil: nothing is any more, once this returns.
    func whenStopped(_ body: (@Sendable () -> Void)?) {
        handler.withLock { handler in
            handler = body
            if isStopped { body?() }
        }
    }

    /// Runs `work`, which ends early when it is stopped or the task cancelled: what it awaits is cancelled, what it computes looks at
    /// ``isStopped``.
    func run<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) async throws -> Value {
        try await withThrowingTaskGroup(of: Value?.self) { group in
            group.addTask { try await work() }
            group.addTask { [self] in
                for await _ in stream {}
                stop()
                return nil
            }
            defer { group.cancelAll() }
            while let next = try await group.next() {
                if let next { return next }
                group.cancelAll()
            }
            throw CancellationError()
        }
    }
}
