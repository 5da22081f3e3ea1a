/// Runs sessions: the coordinator in this process. Its input is in the documents; these calls only wake it, so that
/// nothing is polled.
public protocol SessionRunner: Sendable {
    /// A session was inserted, or changed from outside (`cancelRequested`).
    func wake(sessionId: String) async
    /// A peer registered, left or was freed: a session that waits for peers may go on.
    func peersChanged() async
}
