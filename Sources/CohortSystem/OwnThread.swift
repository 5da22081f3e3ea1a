import Dispatch
import Synchronization

/// Runs blocking work on a separate thread, outside the cooperative pool; when cancelled, the work is asked to stop.
/// - Parameter work: asks `shouldContinue` from time to time, and ends early when it is false.
public func onOwnThread<Value: Sendable>(
    _ work: @escaping @Sendable (_ shouldContinue: @escaping () -> Bool) throws -> Value
) async throws -> Value {
    let cancelled = Flag(false)
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            blockingThreads.async { continuation.resume(with: Result { try work { !cancelled.value } }) }
        }
    } onCancel: {
        cancelled.set(true)
    }
}

private let blockingThreads = DispatchQueue(label: "cohort.blocking", attributes: .concurrent)

/// A flag that threads share.
public final class Flag: Sendable {
    private let state: Mutex<Bool>
    public init(_ value: Bool) { state = Mutex(value) }
    public var value: Bool { state.withLock { $0 } }
    public func set(_ value: Bool) { state.withLock { $0 = value } }
}

/// A thread that waits for one thing for as long as the process lives.
public func watchingThread(_ body: @escaping @Sendable () -> Void) { blockingThreads.async(execute: body) }
