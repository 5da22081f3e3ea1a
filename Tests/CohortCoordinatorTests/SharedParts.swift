import CohortCore
import CohortSession
import FoundationEssentials
import Logging
import MongoDocuments
import RabbitMQTransport
import S3Objects
import TestSupport

/// Real servers under a session: RabbitMQ, S3, and nx-27017 for MongoDB (mongoeco takes half a second for a round).
enum SharedParts {
    private static let environment = ProcessInfo.processInfo.environment
    private static let rabbit = environment["COHORT_TEST_AMQP_URL"]
    private static let s3 = environment["COHORT_TEST_S3_URL"]
    private static let mongo = environment["COHORT_TEST_NX27017_URL"]
    static let areThere = rabbit != nil && s3 != nil && mongo != nil && step > 0

    /// COHORT_TEST_EVERY=1 is all of them; without it none.
    static let step = environment["COHORT_TEST_EVERY"].flatMap { Int($0) } ?? 0

    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// A separate database, part of the bucket and peers.
    static func with<Value: Sendable>(_ body: (SessionWorld.Parts) async throws -> Value) async throws -> Value {
        let own = newIdentifier()
        let documents = try await MongoDocuments(
            uri: TestMongo.uri(mongo ?? "", database: "cohort_nth_\(own.suffix(12))"), setting: "COHORT_TEST_NX27017_URL")
        let objects = try S3Objects(
            S3Address((s3 ?? "").replacing("s3://cohort?", with: "s3://cohort/\(own)?"), setting: "COHORT_TEST_S3_URL"),
            environment: [
                "AWS_ACCESS_KEY_ID": environment["COHORT_TEST_S3_KEY"] ?? "",
                "AWS_SECRET_ACCESS_KEY": environment["COHORT_TEST_S3_SECRET"] ?? "",
            ], logger: logger)
        do {
            try await objects.ready()
            let value = try await body(parts(documents, objects: objects, own: own))
            try await objects.close()
            try await documents.close()
            return value
        } catch {
            try? await objects.close()
            try? await documents.close()
            throw error
        }
    }

    private static func parts(_ documents: any Documents, objects: any ObjectStore, own: String) throws -> SessionWorld.Parts {
        let address = try RabbitMQAddress(rabbit ?? "", setting: "COHORT_TEST_AMQP_URL")
        return SessionWorld.Parts(
            documents: documents, objects: objects,
            makeBroker: {
                try RabbitMQTransport(
                    .init(address: address, peerQueueExpiry: 120), signatures: MessageSignatures(secret: [UInt8](repeating: 7, count: 32)),
                    logger: logger)
            },
            key: { link in
                let path = link.prefix { $0 != "?" }
                return path.split(separator: "/\(own)/", maxSplits: 1).last.map(String.init) ?? ""
            },
            peers: ["a-\(own)", "b-\(own)"], speed: 20)
    }
}
