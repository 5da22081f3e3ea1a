import AsyncHTTPClient
import CohortCore
import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1
import TestSupport
import Testing

private let environment = ProcessInfo.processInfo.environment

/// A server that `make integration` has started by one of `scripts/`.
struct RealServer: Sendable {
    let folder: String
    private let script: String

    init?(_ script: String, folderIn variable: String) {
        guard let folder = environment[variable], let scripts = environment["COHORT_TEST_SCRIPTS"] else { return nil }
        self.folder = folder
        self.script = "\(scripts)/\(script)"
    }

    /// `stop`, `kill` or `restart`; returns when it is done.
    func act(_ action: String) throws {
        let status = try Self.run([script, action, folder])
        #expect(status == 0, "\(script) \(action)")
    }

    private static func run(_ arguments: [String]) throws -> Int32 {
        var pid = pid_t()
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // What it starts must not hold on to this process's output.
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        guard posix_spawn(&pid, arguments[0], &actions, nil, &pointers, environ) == 0 else { return -1 }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return status
    }
}

enum RabbitMQServer {
    static let url = environment["COHORT_TEST_AMQP_URL"]
    static let tlsURL = environment["COHORT_TEST_AMQPS_URL"]
    static let adminURL = environment["COHORT_TEST_AMQP_ADMIN_URL"]
    static let caFile = server.map { "\($0.folder)/tls/ca.pem" }
    static let server = RealServer("rabbitmq.sh", folderIn: "COHORT_TEST_RABBITMQ_FOLDER")
    static let isThere = url != nil && tlsURL != nil && server != nil
}

/// The peer of `Examples/python-peer`, with an interpreter that has what it needs.
enum PythonPeer {
    static let interpreter = environment["COHORT_TEST_PYTHON"]
    static let isThere = interpreter != nil && RabbitMQServer.isThere

    /// A file of the repository.
    static func file(_ path: String) -> String {
        URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../../\(path)").standardized.path
    }
}

enum S3Server {
    static let url = environment["COHORT_TEST_S3_URL"]
    static let tlsURL = environment["COHORT_TEST_S3_TLS_URL"]
    static let server = RealServer("seaweedfs.sh", folderIn: "COHORT_TEST_S3_FOLDER")
    static let isThere = url != nil && tlsURL != nil && server != nil

    /// The settings of a server: a separate part of the bucket, and credentials.
    static func settings(prefix: String, secret: String? = nil) -> [String: String] {
        [
            "COHORT_OBJECTS_URL": (url ?? "").replacing("s3://cohort?", with: "s3://cohort/\(prefix)?"),
            "AWS_ACCESS_KEY_ID": environment["COHORT_TEST_S3_KEY"] ?? "",
            "AWS_SECRET_ACCESS_KEY": secret ?? environment["COHORT_TEST_S3_SECRET"] ?? "",
        ]
    }
}

/// A server of MongoDB's wire protocol.
enum MongoServer {
    static let server = RealServer("mongodb.sh", folderIn: "COHORT_TEST_MONGODB_FOLDER")
    /// Each by its name, the one that ``server`` stops and starts first.
    static let urls = [
        ("mongoeco", environment["COHORT_TEST_MONGOECO_URL"]), ("nx-27017", environment["COHORT_TEST_NX27017_URL"]),
        ("MongoDB", environment["COHORT_TEST_MONGODB_URL"]),
    ].compactMap { name, url in url.map { (name: name, url: $0) } }
    static let isThere = !urls.isEmpty && server != nil

    /// A separate database.
    static func settings(_ url: String) -> [String: String] {
        ["COHORT_DATABASE_URL": TestMongo.uri(url, database: "cohort_\(newIdentifier().suffix(12))")]
    }
}

/// All three at once.
enum RealServers {
    static let isThere = RabbitMQServer.isThere && S3Server.isThere && MongoServer.isThere

    static func settings(mongo: String) -> [String: String] {
        S3Server.settings(prefix: newIdentifier()).merging(MongoServer.settings(mongo)) { $1 }
            .merging(["COHORT_BROKER_URL": RabbitMQServer.tlsURL ?? ""]) { $1 }
    }
}

extension World {
    /// The status of `/health/ready`.
    func ready(_ server: Server) async throws -> Int {
        let response = try await http.execute(HTTPClientRequest(url: "\(server.url)/health/ready"), timeout: .seconds(30))
        _ = try await response.body.collect(upTo: 1 << 20)
        return Int(response.status.code)
    }
}
