import Dispatch
import Synchronization

/// Runs blocking work on a separate thread, outside the cooperative pool; when cancelled, the work is asked to stop.
/// - Parameter work: asks `shouldContinue` from time to time, and ends early when it is false.
public func onOwnThread<Value: Sendable>(
    _ work: @escaping @Sendable (_ shouldContinue: @escaping () -> Bool) throws -> Value
) async throws -> Value {
    let isCancelled = Atomic(false)
    return try await withTaskCancellationHandler {
        try await withCheckedThrowingContinuation { continuation in
            blockingThreads.async { continuation.resume(with: Result { try work { !isCancelled.load(ordering: .relaxed) } }) }
        }
    } onCancel: {
        isCancelled.store(true, ordering: .relaxed)
    }
}

private let blockingThreads = DispatchQueue(label: "cohort.blocking", attributes: .concurrent)

/// A thread that waits for one thing for as long as the process lives.
public func watchingThread(_ body: @escaping @Sendable () -> Void) { blockingThreads.async(execute: body) }
