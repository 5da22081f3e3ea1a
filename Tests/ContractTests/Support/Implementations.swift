import CohortCore
import CohortServer
import CohortSession
import CohortWire
import DirectoryObjects
import Foundation
import InMemory
import Logging
import MongoDocuments
import RabbitMQTransport
import S3Objects
import SQLiteDocuments
import TestSupport
import Testing

/// Every document store that must pass the document suites. A new one is a new line.
struct DocumentStore: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Opens what is kept at a place; a second opening, at the same time or later, sees the same documents.
    let open: @Sendable (_ place: TemporaryFolder) async throws -> Opened<any Documents>

    static let all =
        builtIn([
            DocumentStore(testDescription: "SQLite") { place in
                let documents = try SQLiteDocuments(path: place.path("cohort.sqlite"))
                return Opened(part: documents) { try await documents.close() }
            },
            DocumentStore(testDescription: "memory") { place in
                Opened(part: await MemoryPlaces.shared.documents(at: place.path("documents"))) {}
            },
        ]) + mongo("MongoDB", "COHORT_TEST_MONGODB_URL") + mongo("mongoeco", "COHORT_TEST_MONGOECO_URL")
        + mongo("nx-27017", "COHORT_TEST_NX27017_URL")

    /// Those whose server there is: `make integration` starts two.
    private static func mongo(_ description: String, _ variable: String) -> [DocumentStore] {
        guard let url = ProcessInfo.processInfo.environment[variable] else { return [] }
        return [
            DocumentStore(testDescription: description) { place in
                // The last part of a place's path is its own.
                let name = "cohort_test_\(place.path.suffix(12).lowercased())"
                let documents = try await MongoDocuments(uri: TestMongo.uri(url, database: name), setting: variable)
                return Opened(part: documents) { try await documents.close() }
            }
        ]
    }
}

/// Every object store that must pass the object suite.
struct ObjectStoreKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var givesAllAtOnce = false
    let open: @Sendable (_ place: TemporaryFolder) async throws -> Opened<any ObjectStore>

    static let all =
        builtIn([
            ObjectStoreKind(testDescription: "directory") { place in
                Opened(part: try DirectoryObjects(path: place.path("objects"), secret: testSecret)) {}
            },
            // All are in memory: the empty prefix is every key's.
            ObjectStoreKind(testDescription: "directory, short-lived", givesAllAtOnce: true) { place in
                let policy = MemoryPolicy(transient: [""], copied: [], bytes: 64 << 20, largest: 8 << 20, writeDelay: .seconds(3_600))
                return Opened(part: try DirectoryObjects(path: place.path("objects"), secret: testSecret, memory: policy)) {}
            },
            ObjectStoreKind(testDescription: "directory, copied", givesAllAtOnce: true) { place in
                let policy = MemoryPolicy(transient: [], copied: [""], bytes: 64 << 20, largest: 8 << 20)
                return Opened(part: try DirectoryObjects(path: place.path("objects"), secret: testSecret, memory: policy)) {}
            },
            ObjectStoreKind(testDescription: "memory") { _ in Opened(part: MemoryObjects()) {} },
        ]) + s3("S3", TestS3.url) + s3("S3 over TLS", TestS3.tlsURL)

    /// Those whose server there is: `make integration` starts one.
    private static func s3(_ description: String, _ url: String?) -> [ObjectStoreKind] {
        guard url != nil else { return [] }
        return [
            ObjectStoreKind(testDescription: description) { _ in
                let store = try TestS3.store(url)
                try await store.ready()
                return Opened(part: store) { try await store.close() }
            }
        ]
    }
}

/// Every transport that must pass the broker suite.
struct BrokerKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// An event without a consumer is kept rather than refused.
    var keepsEvents = false
    let make: @Sendable () throws -> any CoordinatorTransport & PeerGateway

    static let all =
        builtIn([
            BrokerKind(testDescription: "embedded") { EmbeddedBroker(takenWithin: .milliseconds(20), answeredWithin: .seconds(60)) },
            BrokerKind(testDescription: "memory") { MemoryBroker() },
        ]) + rabbitMQ("RabbitMQ", "COHORT_TEST_AMQP_URL") + rabbitMQ("RabbitMQ over TLS", "COHORT_TEST_AMQPS_URL")
        + rabbitMQ("RabbitMQ, quorum queues", "COHORT_TEST_AMQP_URL", isQuorum: true)

    /// Those whose server there is: `make integration` starts one.
    private static func rabbitMQ(_ description: String, _ variable: String, isQuorum: Bool = false) -> [BrokerKind] {
        guard let url = ProcessInfo.processInfo.environment[variable] else { return [] }
        return [
            BrokerKind(testDescription: description, keepsEvents: true) {
                try RabbitMQTransport(
                    .init(address: RabbitMQAddress(url, setting: variable), isQuorum: isQuorum),
                    signatures: MessageSignatures(secret: testSecret),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            }
        ]
    }

    /// Runs `body` with one that is connected.
    func with(_ body: @escaping @Sendable (any CoordinatorTransport & PeerGateway) async throws -> Void) async throws {
        let broker = try make()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await broker.run() }
            group.addTask { try await body(broker) }
            try await group.next()
            group.cancelAll()
        }
    }
}

/// What is opened twice at one place is the same documents.
actor MemoryPlaces {
    static let shared = MemoryPlaces()
    private var places: [String: MemoryDocuments] = [:]

    func documents(at path: String) -> MemoryDocuments {
        if let known = places[path] { return known }
        let documents = MemoryDocuments()
        places[path] = documents
        return documents
    }
}

/// Every object store that this server serves itself.
struct ServedStoreKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let open: @Sendable (_ place: TemporaryFolder) async throws -> Opened<any ServedObjectStore>

    static let all = [
        ServedStoreKind(testDescription: "directory") { place in
            Opened(part: try DirectoryObjects(path: place.path("objects"), secret: testSecret)) {}
        }
    ]
}

/// Implementations that need no server; none where COHORT_TEST_ONLY_SERVERS is set, as in `make integration`: `make test` has tried them.
private func builtIn<Implementation>(_ all: [Implementation]) -> [Implementation] {
    ProcessInfo.processInfo.environment["COHORT_TEST_ONLY_SERVERS"] == nil ? all : []
}

let testSecret = [UInt8](repeating: 7, count: 32)

struct Opened<Part: Sendable>: Sendable {
    let part: Part
    let close: @Sendable () async throws -> Void
}

extension DocumentStore {
    /// What outlives its process.
    static var durable: [DocumentStore] { all.filter { $0.testDescription != "memory" } }

    /// Runs `body` on an empty store.
    func withEmpty(_ body: (any Documents) async throws -> Void) async throws {
        try await TemporaryFolder.with { place in
            let opened = try await open(place)
            try await body(opened.part)
            try await opened.close()
        }
    }
}

extension ObjectStoreKind {
    func withEmpty(_ body: (any ObjectStore, TemporaryFolder) async throws -> Void) async throws {
        try await TemporaryFolder.with { place in
            let opened = try await open(place)
            do { try await body(opened.part, place) } catch {
                try await opened.close()
                throw error
            }
            try await opened.close()
        }
    }
}

extension ServedStoreKind {
    func withEmpty(_ body: (any ServedObjectStore, TemporaryFolder) async throws -> Void) async throws {
        try await TemporaryFolder.with { place in
            let opened = try await open(place)
            do { try await body(opened.part, place) } catch {
                try await opened.close()
                throw error
            }
            try await opened.close()
        }
    }
}
