import Dispatch
import FoundationEssentials

/// Divides work over the cores. The caller's own thread works, too, so it goes on even when no other thread is free.
struct InParallel {
    let threads: Int

    /// - Parameter threads: nil: as many as there are cores.
    init(threads: Int?) { self.threads = max(1, threads ?? ProcessInfo.processInfo.activeProcessorCount) }

    /// Calls `body` with parts of 0 ..< count that follow one another, and the number of the part (less than ``threads``), each on one
    /// thread; returns when all are done.
    /// - Throws: what the first part that fails throws: the same as if they had run in order.
    func divide(_ count: Int, _ body: (Range<Int>, _ part: Int) throws -> Void) throws {
        let parts = min(threads, count)
        guard parts > 1 else {
            if count > 0 { try body(0..<count, 0) }
            return
        }
        try withoutActuallyEscaping(body) { body in
            try withUnsafeTemporaryAllocation(of: Result<Void, any Error>.self, capacity: parts) { results in
                results.initialize(repeating: .success(()))
                defer { results.deinitialize() }
                // Each part has a separate result, and is done when `concurrentPerform` returns.
                nonisolated(unsafe) let (body, results) = (body, results)
                DispatchQueue.concurrentPerform(iterations: parts) { part in
                    let range = (count * part / parts)..<(count * (part + 1) / parts)
                    results[part] = Result { try body(range, part) }
                }
                for result in results { try result.get() }
            }
        }
    }
}
