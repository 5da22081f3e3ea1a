import CohortAPI
import CohortClient
import CohortCore
import CohortServer
import CohortSession
import CohortSystem
import CohortWire
import DirectoryObjects
import FoundationEssentials
import Logging
import MongoDocuments
import RabbitMQTransport
import S3Objects
import SQLiteDocuments

/// Which implementation a `COHORT_…_URL` names. The only place that switches on a technology.
enum DocumentsChoice: Equatable {
    case sqlite(path: String)
    case mongo(uri: String)

    /// Other processes can use it as well.
    var isShared: Bool { if case .sqlite = self { false } else { true } }

    /// - Throws: ``CohortError`` `invalid` for a URL of a scheme that is not built in.
    init(url: String?, dataDirectory: String) throws {
        guard let url else {
            self = .sqlite(path: "\(dataDirectory)/cohort.sqlite")
            return
        }
        if url.hasPrefix("mongodb:") || url.hasPrefix("mongodb+srv:") {
            self = .mongo(uri: url)
        } else if let path = url.pathOf(scheme: "sqlite") {
            self = .sqlite(path: path)
        } else {
            throw unsupported("COHORT_DATABASE_URL", value: url, expected: "sqlite:PATH, mongodb://… and mongodb+srv://…")
        }
    }

    func open() async throws -> any Documents {
        switch self {
        case .mongo(let uri): try await MongoDocuments(uri: uri, setting: "COHORT_DATABASE_URL")
        case .sqlite(let path): try SQLiteDocuments(path: path)
        }
    }
}

/// An open broker.
struct Broker {
    let transport: any CoordinatorTransport & PeerGateway
    /// nil where no other process can listen.
    let signals: (any SignalBus)?
}

enum BrokerChoice: Equatable {
    case embedded
    case rabbitMQ(RabbitMQAddress, forPeers: RabbitMQAddress?, admin: String?)

    /// Other processes can use it as well.
    var isShared: Bool { if case .embedded = self { false } else { true } }

    /// - Parameters:
    ///   - peerURL: how peers reach the RabbitMQ.
    ///   - adminURL: of its management API.
    /// - Throws: ``CohortError`` `invalid` for a URL of a scheme that is not built in, or one that is not right.
    init(url: String?, peerURL: String?, adminURL: String?) throws {
        let url = url ?? "embedded:"
        if url == "embedded:" {
            guard peerURL == nil, adminURL == nil else {
                throw CohortError(.invalid, "COHORT_BROKER_PEER_URL and COHORT_BROKER_ADMIN_URL are for a RabbitMQ in COHORT_BROKER_URL")
            }
            self = .embedded
        } else if url.hasPrefix("amqp:") || url.hasPrefix("amqps:") {
            let address = try RabbitMQAddress(url, setting: "COHORT_BROKER_URL")
            // With an account each, peers may reach it where the server does.
            let forPeers =
                try peerURL.map { try RabbitMQAddress($0, setting: "COHORT_BROKER_PEER_URL") } ?? (adminURL == nil ? nil : address)
            self = .rabbitMQ(address, forPeers: forPeers, admin: adminURL)
        } else {
            throw unsupported("COHORT_BROKER_URL", value: url, expected: "embedded:, amqp://… and amqps://…")
        }
    }

    /// - Parameter secret: of the signatures of messages; the same on every server and coordinator.
    func open(secret: @autoclosure () throws -> [UInt8], isQuorum: Bool, logger: Logger) throws -> Broker {
        switch self {
        case .embedded: return Broker(transport: EmbeddedBroker(), signals: nil)
        case .rabbitMQ(let address, let forPeers, let admin):
            let transport = try RabbitMQTransport(
                .init(
                    address: address, isQuorum: isQuorum,
                    access: forPeers.map { try PeerAccess(address: $0, admin: admin, setting: "COHORT_BROKER_ADMIN_URL", logger: logger) }),
                signatures: MessageSignatures(secret: secret()), logger: logger)
            return Broker(transport: transport, signals: transport)
        }
    }
}

/// The transport of a peer's messages, as its registration was answered.
struct PeerTransportChoice: Sendable {
    /// A PEM file of the authorities that signed a RabbitMQ's certificate; nil: the system's.
    var caFile: String?

    @Sendable func make(_ client: CohortClient, registered: API.Registered, logger: Logger) throws -> any PeerTransport {
        switch registered.broker.kind {
        case .http: return HTTPPeerTransport(client: client, registered: registered, logger: logger)
        case .amqp:
            return try RabbitMQPeerTransport(
                peerId: registered.peerId, registration: registered.registration, broker: registered.broker, caFile: caFile, logger: logger
            ) {
                try await PresenceBeats(client: client, registered: registered, logger: logger).run()
            }
        default:
            throw CohortError(
                .invalid,
                "the server wants peers to use '\(registered.broker.kind.rawValue.printable(max: 40))', which this version of Cohort does not: update it"
            )
        }
    }
}

enum ObjectsChoice: Equatable {
    case directory(path: String)
    case s3(S3Address)

    /// Other processes can use it as well.
    var isShared: Bool { if case .directory = self { false } else { true } }

    /// - Throws: ``CohortError`` `invalid` for a URL of a scheme that is not built in, or one that is not right.
    init(url: String?, dataDirectory: String) throws {
        guard let url else {
            self = .directory(path: "\(dataDirectory)/objects")
            return
        }
        if url.hasPrefix("s3:") {
            self = .s3(try S3Address(url, setting: "COHORT_OBJECTS_URL"))
        } else if let path = url.pathOf(scheme: "file") {
            self = .directory(path: path)
        } else {
            throw unsupported("COHORT_OBJECTS_URL", value: url, expected: "file:PATH and s3://BUCKET")
        }
    }

    /// - Parameter folder: this process's, with the secret of its links.
    /// - Returns: the store, and the same again when its links lead to the server.
    func open(_ folder: LockedFolder, logger: Logger) throws -> (store: any ObjectStore, served: (any ServedObjectStore)?) {
        switch self {
        case .s3(let address):
            return (try S3Objects(address, environment: ProcessInfo.processInfo.environment, logger: logger), nil)
        case .directory(let path):
            let store = try DirectoryObjects(path: path, secret: folder.secret("objects.key"), memory: .ofRounds)
            return (store, store)
        }
    }
}

extension MemoryPolicy {
    /// A round's updates, which peers send again, and the newest weights, which all peers read at once.
    fileprivate static var ofRounds: MemoryPolicy {
        MemoryPolicy(
            transient: [Session.updateFolder], copied: [Session.checkpointFolder],
            bytes: min(512 << 20, Int(clamping: ProcessInfo.processInfo.physicalMemory / 16)), largest: 16 << 20)
    }
}

private func unsupported(_ setting: String, value url: String, expected right: String) -> CohortError {
    // A URL may hold a password: only its scheme is shown.
    let scheme = url.split(separator: ":", maxSplits: 1).first.map { "\($0):" } ?? url
    return CohortError(.invalid, "\(setting) begins with '\(scheme)'; this version of Cohort understands \(right)")
}

extension String {
    /// `sqlite:PATH` and `sqlite://PATH` → PATH, for a path that is not empty.
    fileprivate func pathOf(scheme: String) -> String? {
        guard hasPrefix("\(scheme):") else { return nil }
        var path = dropFirst(scheme.count + 1)
        if path.hasPrefix("//") { path = path.dropFirst(2) }
        return path.isEmpty ? nil : String(path)
    }
}
