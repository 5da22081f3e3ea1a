/// A message from a peer: on the wire, an object whose `type` is ENABLED, READY, PROGRESS, HEARTBEAT, DONE or ERROR.
public enum PeerEvent: Hashable, Sendable {
    case enabled(EnabledEvent)
    case ready(ReadyEvent)
    case progress(ProgressEvent)
    case heartbeat(HeartbeatEvent)
    case done(DoneEvent)
    case error(ErrorEvent)

    public var sessionId: String {
        switch self {
        case .enabled(let event): event.sessionId
        case .ready(let event): event.sessionId
        case .progress(let event): event.sessionId
        case .heartbeat(let event): event.sessionId
        case .done(let event): event.sessionId
        case .error(let event): event.sessionId
        }
    }

    public var peerId: String {
        switch self {
        case .enabled(let event): event.peerId
        case .ready(let event): event.peerId
        case .progress(let event): event.peerId
        case .heartbeat(let event): event.peerId
        case .done(let event): event.peerId
        case .error(let event): event.peerId
        }
    }

    /// A progress report: a newer one replaces it, and its sender does not wait for the outcome.
    public var isReport: Bool {
        switch self {
        case .heartbeat, .progress: true
        case .enabled, .ready, .done, .error: false
        }
    }

    /// The generation of the coordinator that it answers; 0 where it is missing.
    public var generation: Int {
        let generation: Int? =
            switch self {
            case .enabled(let event): event.generation
            case .ready(let event): event.generation
            case .progress(let event): event.generation
            case .error(let event): event.generation
            case .heartbeat(let event): event.generation
            case .done(let event): event.generation
            }
        return generation ?? 0
    }

    /// The round and attempt that it speaks of; 0 where it does not say.
    public var work: (round: Int, attempt: Int) {
        switch self {
        case .enabled, .ready, .progress: (0, 0)
        case .heartbeat(let event): (event.round, 0)
        case .done(let event): (event.round, event.attempt ?? 0)
        case .error(let event): (event.round, 0)
        }
    }
}
