/// A message to a peer: on the wire, an object whose `type` is ENABLE, TRAIN, REFUSED or STOP.
public enum Command: Hashable, Sendable {
    case enable(EnableCommand)
    case train(TrainCommand)
    case refused(RefusedCommand)
    case stop(StopCommand)

    public var sessionId: String {
        switch self {
        case .enable(let command): command.sessionId
        case .train(let command): command.work.sessionId
        case .refused(let command): command.sessionId
        case .stop(let command): command.sessionId
        }
    }
}
