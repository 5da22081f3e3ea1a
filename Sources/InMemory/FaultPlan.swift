public import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Synchronization

/// Makes the n-th call to any of a set of parts go wrong.
public final class FaultPlan: Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        /// It throws, having done nothing.
        case fail
        /// It throws, having done what it was asked for.
        case failAfter
        /// It takes long, and then throws.
        case hang
        /// Nothing after it happens, as after `kill -9`.
        case crash
        /// It happens, and nothing after it.
        case crashAfter
    }

    /// After a crash every call of the dead throws this.
    public struct Dead: Error {}

    private let kind: Kind?
    private let number: Int
    private let time: any TimeSource
    private let willCall: (@Sendable (String) -> Void)?
    private let state = Mutex((count: 0, isDead: false, name: ""))
    public let died: AsyncStream<Void>
    private let dying: AsyncStream<Void>.Continuation

    /// - Parameters:
    ///   - kind: nil: calls are only counted.
    ///   - willCall: called with the name of each call before it is made.
    public init(
        _ kind: Kind?, at number: Int = 0, time: any TimeSource = SystemTime(), willCall: (@Sendable (String) -> Void)? = nil
    ) {
        self.willCall = willCall
        self.kind = kind
        self.number = number
        self.time = time
        (died, dying) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    public var count: Int { state.withLock { $0.count } }
    /// The name of the call that failed.
    public var name: String { state.withLock { $0.name } }

    public func call<Value: Sendable>(_ name: String, _ body: () async throws -> Value) async throws -> Value {
        willCall?(name)
        let isTheOne = try state.withLock { state in
            if state.isDead { throw Dead() }
            state.count += 1
            guard kind != nil, state.count == number else { return false }
            state.name = name
            if kind == .crash { state.isDead = true }
            return true
        }
        guard isTheOne, let kind else { return try await body() }
        let fault = CohortError(.unavailable, "call \(number) (\(name)) fails, as the test says")
        switch kind {
        case .fail: throw fault
        case .failAfter:
            _ = try await body()
            throw fault
        case .hang:
            try await time.sleep(seconds: 20)
            throw fault
        case .crash:
            dying.finish()
            throw Dead()
        case .crashAfter:
            _ = try? await body()
            state.withLock { $0.isDead = true }
            dying.finish()
            throw Dead()
        }
    }
}
