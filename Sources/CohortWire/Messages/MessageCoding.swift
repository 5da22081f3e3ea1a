private enum TypeKey: String, CodingKey { case type }

extension Command: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: TypeKey.self)
        switch try container.decode(String.self, forKey: .type) {
        case "ENABLE": self = .enable(try EnableCommand(from: decoder))
        case "TRAIN": self = .train(try TrainCommand(from: decoder))
        case "REFUSED": self = .refused(try RefusedCommand(from: decoder))
        case "STOP": self = .stop(try StopCommand(from: decoder))
        case let other: throw UnknownMessageType(type: other)
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: TypeKey.self)
        switch self {
        case .enable(let command):
            try container.encode("ENABLE", forKey: .type)
            try command.encode(to: encoder)
        case .train(let command):
            try container.encode("TRAIN", forKey: .type)
            try command.encode(to: encoder)
        case .refused(let command):
            try container.encode("REFUSED", forKey: .type)
            try command.encode(to: encoder)
        case .stop(let command):
            try container.encode("STOP", forKey: .type)
            try command.encode(to: encoder)
        }
    }
}

extension PeerEvent: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: TypeKey.self)
        switch try container.decode(String.self, forKey: .type) {
        case "ENABLED": self = .enabled(try EnabledEvent(from: decoder))
        case "READY": self = .ready(try ReadyEvent(from: decoder))
        case "PROGRESS": self = .progress(try ProgressEvent(from: decoder))
        case "HEARTBEAT": self = .heartbeat(try HeartbeatEvent(from: decoder))
        case "DONE": self = .done(try DoneEvent(from: decoder))
        case "ERROR": self = .error(try ErrorEvent(from: decoder))
        case let other: throw UnknownMessageType(type: other)
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: TypeKey.self)
        switch self {
        case .enabled(let event):
            try container.encode("ENABLED", forKey: .type)
            try event.encode(to: encoder)
        case .ready(let event):
            try container.encode("READY", forKey: .type)
            try event.encode(to: encoder)
        case .progress(let event):
            try container.encode("PROGRESS", forKey: .type)
            try event.encode(to: encoder)
        case .heartbeat(let event):
            try container.encode("HEARTBEAT", forKey: .type)
            try event.encode(to: encoder)
        case .done(let event):
            try container.encode("DONE", forKey: .type)
            try event.encode(to: encoder)
        case .error(let event):
            try container.encode("ERROR", forKey: .type)
            try event.encode(to: encoder)
        }
    }
}

/// A message of a type this version does not know: logged and acknowledged, never an end of anything.
public struct UnknownMessageType: Error, Hashable, Sendable, CustomStringConvertible {
    public let type: String
    public var description: String { "unknown message type '\(type)'" }
}
