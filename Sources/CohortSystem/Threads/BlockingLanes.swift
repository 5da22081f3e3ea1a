import CohortCore
import Dispatch
import Synchronization

/// A few threads for work that blocks, so that Swift's cooperative pool (as many threads as cores) never waits for it. The least busy
/// lane gets the next piece of work.
public final class BlockingLanes: Sendable {
    private let lanes: [DispatchQueue]
    private let pending: Mutex<[Int]>
    private let limit: Int
    private let name: String

    /// - Parameter limit: how much work may wait or run at once; more is refused.
    public init(_ name: String, count: Int, limit: Int = .max) {
        self.name = name
        self.limit = limit
        lanes = (0..<count).map { DispatchQueue(label: "cohort.\(name).\($0)") }
        pending = Mutex([Int](repeating: 0, count: count))
    }

    /// - Throws: what `work` throws; ``CohortError`` `unavailable` when too much is waiting already.
    public func run<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        let lane = try pending.withLock { pending in
            guard pending.reduce(0, +) < limit else {
                throw CohortError(.unavailable, "the server is busy (\(name)): try again in a moment")
            }
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
