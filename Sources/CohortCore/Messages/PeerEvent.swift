/// What a peer reports. On the wire an object whose `type` is ENABLED, READY, PROGRESS, HEARTBEAT, DONE or ERROR.
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
}
