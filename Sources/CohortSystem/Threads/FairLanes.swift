import CohortCore
import Dispatch
import Synchronization

/// A few threads for costly work that many ask for, each on behalf of a key such as a network: the keys take turns, so that one that asks a
/// thousand times does not keep the others waiting.
public final class FairLanes: Sendable {
    private typealias Job = @Sendable () -> Void

    private struct State {
        var running = 0
        var waiting = 0
        var queues: [String: [Job]] = [:]
        /// Keys that have work, in the order of their turns.
        var turns: [String] = []
    }

    private let state = Mutex(State())
    private let threads: DispatchQueue
    private let name: String
    private let count: Int
    private let limitPerKey: Int
    private let limit: Int

    /// - Parameters:
    ///   - count: the number of threads.
    ///   - limitPerKey: the most work of one key that waits.
    ///   - limit: the most work that waits.
    public init(_ name: String, count: Int, limitPerKey: Int, limit: Int) {
        self.name = name
        self.count = count
        self.limitPerKey = limitPerKey
        self.limit = limit
        threads = DispatchQueue(label: "cohort.\(name)", attributes: .concurrent)
    }

    /// - Throws: what `work` throws; ``CohortError`` `unavailable` when too much is waiting, of this key or in all.
    public func run<Value: Sendable>(for key: String, _ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let isTaken = add(key) {
                let result = Result { try work() }
                self.ended()
                continuation.resume(with: result)
            }
            if !isTaken { continuation.resume(throwing: CohortError(.unavailable, "the server is busy (\(name)): try again in a moment")) }
        }
    }

    /// The number of waiting jobs.
    package var waitingCount: Int { state.withLock { $0.waiting } }

    private func add(_ key: String, _ job: @escaping Job) -> Bool {
        let (isTaken, next) = state.withLock { state -> (Bool, Job?) in
            guard state.waiting < limit, state.queues[key, default: []].count < limitPerKey else { return (false, nil) }
            if state.queues[key] == nil { state.turns.append(key) }
            state.queues[key, default: []].append(job)
            state.waiting += 1
            return (true, Self.next(&state, count))
        }
        if let next { threads.async(execute: next) }
        return isTaken
    }

    private func ended() {
        let next = state.withLock { state -> Job? in
            state.running -= 1
            return Self.next(&state, count)
        }
        if let next { threads.async(execute: next) }
    }

    private static func next(_ state: inout State, _ count: Int) -> Job? {
        guard state.running < count, let key = state.turns.first else { return nil }
        state.turns.removeFirst()
        let job = state.queues[key]?.removeFirst()
        if state.queues[key]?.isEmpty ?? true { state.queues[key] = nil } else { state.turns.append(key) }
        guard let job else { return nil }
        state.running += 1
        state.waiting -= 1
        return job
    }
}
