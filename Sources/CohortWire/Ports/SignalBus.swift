/// Small news for every process of a deployment that shares its stores. Some may be lost: what matters is in the documents, and looked at from
/// time to time.
public protocol SignalBus: Sendable {
    func send(_ signal: Signal) async
    /// The signals of other processes, from now on. The newest 10,000 are kept for a listener that is slower.
    func signals() async -> AsyncStream<Signal>
}

public enum Signal: Codable, Hashable, Sendable {
    /// A notice for the session's subscribers.
    case notice(SessionNotice)
    /// See ``SessionRunner/wake(sessionId:)``.
    case wake(sessionId: String)
    /// See ``SessionRunner/peersChanged()``.
    case peersChanged
}
