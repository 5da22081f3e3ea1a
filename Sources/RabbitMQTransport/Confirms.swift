import CohortCore
import Synchronization

/// Messages on their way, by the number that the server confirms them with.
struct Confirms {
    private var last: UInt64 = 0
    private var lowest: UInt64 = 1
    private var waiting: [UInt64: @Sendable (Result<Void, CohortError>) -> Void] = [:]

    mutating func next(_ done: @escaping @Sendable (Result<Void, CohortError>) -> Void) -> UInt64 {
        last += 1
        waiting[last] = done
        return last
    }

    mutating func settle(_ tag: UInt64, _ outcome: Result<Void, CohortError>) { waiting.removeValue(forKey: tag)?(outcome) }

    mutating func settle(through tag: UInt64, _ outcome: Result<Void, CohortError>) {
        while lowest <= tag {
            settle(lowest, outcome)
            lowest += 1
        }
    }

    func fail(_ error: CohortError) {
        for done in waiting.values { done(.failure(error)) }
    }
}

/// Counts the outcomes of messages published together; the first failure is the one to tell.
final class Tally: Sendable {
    private let state: Mutex<(left: Int, failure: CohortError?)>
    private let done: @Sendable (Result<Void, any Error>) -> Void

    init(_ count: Int, _ done: @escaping @Sendable (Result<Void, any Error>) -> Void) {
        state = Mutex((count, nil))
        self.done = done
    }

    func settle(_ outcome: Result<Void, CohortError>) {
        let (isOver, failure) = state.withLock { state in
            if case .failure(let error) = outcome { state.failure = state.failure ?? error }
            state.left -= 1
            return (state.left == 0, state.failure)
        }
        if isOver { done(failure.map { .failure($0) } ?? .success(())) }
    }
}
