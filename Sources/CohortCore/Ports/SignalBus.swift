/// Small news for every process of a deployment that shares its stores. Some may be lost: what matters is in the documents, and looked at from
/// time to time.
public protocol SignalBus: Sendable {
    func send(_ signal: Signal) async
    /// What other processes send, from now on. The newest 10,000 are kept for a listener that is slower.
    func signals() async -> AsyncStream<Signal>
}

public enum Signal: Codable, Hashable, Sendable {
    /// For whoever watches the session.
    case notice(SessionNotice)
    /// As ``SessionRunner/wake(sessionId:)``.
    case wake(sessionId: String)
    /// As ``SessionRunner/peersChanged()``.
    case peersChanged
}
