import Dispatch
import Synchronization

/// Threads for file work that blocks, so that Swift's cooperative pool (as many threads as cores) never waits for a disk. At most
/// eight at once; a serial queue has one thread while it has work, and the least busy queue gets the next piece.
final class BlockingThreads: Sendable {
    private let lanes = (0..<8).map { DispatchQueue(label: "cohort.objects.\($0)") }
    private let pending = Mutex([Int](repeating: 0, count: 8))

    func run<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        let lane = pending.withLock { pending in
            let lane = pending.indices.min { pending[$0] < pending[$1] } ?? 0
            pending[lane] += 1
            return lane
        }
        return try await withCheckedThrowingContinuation { continuation in
            lanes[lane].async {
                let result = Result { try work() }
                self.pending.withLock { $0[lane] -= 1 }
                continuation.resume(with: result)
            }
        }
    }
}
