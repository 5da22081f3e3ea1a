import CohortCore
public import CohortWire

/// The activity of a peer, for display.
public enum PeerActivity: Sendable {
    /// Tries until the server is there; why it is not.
    case waitingForServer(String)
    /// Registered in the pool under this name.
    case joined(name: String)
    /// Fetches a data set.
    case loading(bytes: Int)
    /// An epoch of a round is done.
    case epoch(HeartbeatEvent, of: Int)
    case round(DoneEvent)
    case failed(session: String, message: String)
    /// The session does not want it any more.
    case released(session: String)
    case left
}
