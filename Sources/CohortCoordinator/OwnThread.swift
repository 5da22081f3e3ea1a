import Dispatch

/// Threads for work that blocks: a concurrent queue of its own, so that the cooperative pool never waits.
enum OwnThread {
    private static let queue = DispatchQueue(label: "cohort.blocking", attributes: .concurrent)

    static func start(_ work: @escaping @Sendable () -> Void) { queue.async(execute: work) }
}
