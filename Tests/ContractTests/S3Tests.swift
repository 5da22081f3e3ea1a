import AsyncHTTPClient
import CohortClient
import CohortCore
import Crypto
import Foundation
import Logging
import NIOCore
import TestSupport
import Testing

@testable import S3Objects

/// The S3 that `make integration` starts.
enum TestS3 {
    static let url = ProcessInfo.processInfo.environment["COHORT_TEST_S3_URL"]
    static let tlsURL = ProcessInfo.processInfo.environment["COHORT_TEST_S3_TLS_URL"]
    static var isThere: Bool { url != nil }

    static func credentials(secret: String? = nil) -> [String: String] {
        let environment = ProcessInfo.processInfo.environment
        return [
            "AWS_ACCESS_KEY_ID": environment["COHORT_TEST_S3_KEY"] ?? "",
            "AWS_SECRET_ACCESS_KEY": secret ?? environment["COHORT_TEST_S3_SECRET"] ?? "",
        ]
    }

    /// The port of the endpoint.
    static func port() throws -> Int { try #require(url?.split(separator: ":").last.flatMap { Int($0) }) }

    /// A separate part of the bucket.
    static func store(_ url: String?, port: Int? = nil, environment: [String: String]? = nil) throws -> S3Objects {
        var url = try #require(url).replacing("s3://cohort?", with: "s3://cohort/\(newIdentifier())?")
        if let port { url = url.replacing(":\(try self.port())", with: ":\(port)") }
        return try S3Objects(
            try S3Address(url, setting: "COHORT_TEST_S3_URL"), environment: environment ?? credentials(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Runs `body` on one that is ready.
    static func with(
        port: Int? = nil, environment: [String: String]? = nil, _ body: (S3Objects) async throws -> Void
    ) async throws {
        let store = try store(url, port: port, environment: environment)
        do { try await body(store) } catch {
            try await store.close()
            throw error
        }
        try await store.close()
    }
}

@Suite(.enabled(if: TestS3.isThere, "no S3: `make integration` starts one")) struct S3Tests {
    private static func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) } }
    private static func hash(_ bytes: [UInt8]) -> String {
        SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    private func uploads(_ store: S3Objects) async throws -> Int {
        try await store.unfinished().count
    }

    @Test(arguments: [8 << 20, (8 << 20) + 1, 20_000_000])
    func `a large object goes up in parts, and comes back the same`(count: Int) async throws {
        try await TestS3.with { store in
            try await store.ready()
            let bytes = Self.bytes(count)
            let writer = try await store.writer(key: "large.csv")
            for start in stride(from: 0, to: count, by: 1_000_003) {
                try await writer.write(Array(bytes[start..<min(start + 1_000_003, count)]))
            }
            #expect(try await uploads(store) == (count > 8 << 20 ? 1 : 0))
            let reference = try await writer.finish()
            #expect(reference == ObjectReference(key: "large.csv", sha256: Self.hash(bytes), bytes: count))
            #expect(try await store.get("large.csv") == bytes)
            #expect(try await uploads(store) == 0)
        }
    }

    @Test func `an aborted upload leaves no parts, and one that was cut short goes a day later`() async throws {
        try await TestS3.with { store in
            try await store.ready()
            let writer = try await store.writer(key: "a.csv")
            try await writer.write([UInt8](repeating: 1, count: 30 << 20))
            #expect(try await uploads(store) == 1)
            await writer.abort()
            #expect(try await uploads(store) == 0)
            // Its process is gone.
            try await store.writer(key: "b.csv").write([UInt8](repeating: 1, count: 30 << 20))
            #expect(try await uploads(store) == 1)
            try await store.removeUnfinished(before: Date().addingTimeInterval(-3_600))
            #expect(try await uploads(store) == 1, "it may be going on")
            try await store.removeUnfinished(before: Date().addingTimeInterval(3_600))
            #expect(try await uploads(store) == 0)
            #expect(try await store.list(prefix: "") == [])
        }
    }

    @Test func `more keys than a page holds are listed and deleted`() async throws {
        try await TestS3.with { store in
            try await store.ready()
            let keys = (0..<1_050).map { "updates/s/\(1_000 + $0)" }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for some in 0..<10 {
                    group.addTask { for key in keys.dropFirst(some * 105).prefix(105) { _ = try await store.put([1], key: key) } }
                }
                try await group.waitForAll()
            }
            #expect(try await store.list(prefix: "updates/") == keys)
            try await store.delete(keys)
            #expect(try await store.list(prefix: "") == [])
        }
    }

    @Test func `a peer gets and puts by links alone, until they end`() async throws {
        try await TestS3.with { store in
            try await store.ready()
            let http = HTTPClient.cohort()
            let transfer = ObjectTransfer(
                http: http, server: try ServerURL("http://127.0.0.1:1"), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            do {
                let bytes = Self.bytes(3_000_000)
                let expiry = Date().addingTimeInterval(60)
                try await transfer.upload(
                    bytes, to: try await store.presignedPut("updates/s/a+b=c@d", maxBytes: bytes.count, expiry: expiry))
                #expect(try await store.get("updates/s/a+b=c@d") == bytes)
                let get = try await store.presignedGet("updates/s/a+b=c@d", expiry: expiry)
                #expect(try await transfer.get(get, sha256: Self.hash(bytes)) == bytes)
                try await TemporaryFolder.with { folder in
                    // Half of it is there from before.
                    _ = try folder.write(Array(bytes.prefix(1_000_000)), to: "x.csv.part")
                    try await transfer.download(get, to: folder.path("x.csv"), sha256: Self.hash(bytes), bytes: bytes.count)
                    #expect(FileManager.default.contents(atPath: folder.path("x.csv")) == Data(bytes))
                }
                await expectError(.forbidden) { try await transfer.get(get.replacing("a%2Bb", with: "other")) }
                await expectError(.forbidden) { try await transfer.upload([1], to: get) }
                let late = try await store.presignedGet("updates/s/a+b=c@d", expiry: Date().addingTimeInterval(-60))
                // A second is the shortest that a link can hold.
                try await Task.sleep(for: .milliseconds(2_100))
                await expectError(.forbidden) { try await transfer.get(late) }
                #expect(!get.contains(TestS3.credentials()["AWS_SECRET_ACCESS_KEY"] ?? ""))
            } catch {
                try await http.shutdown()
                throw error
            }
            try await http.shutdown()
        }
    }

    @Test func `what passes is tried again: a store that asks to slow down, a connection that breaks`() async throws {
        let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        let busy = "HTTP/1.1 503 Slow Down\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)"
        try await FaultyProxy.with(
            [.answer(busy), .answer(busy), .cut(after: 0), .answer(busy)], target: try TestS3.port()
        ) { proxy, port in
            try await TestS3.with(port: port) { store in
                try await store.ready()
                #expect(proxy.left == 0)
                #expect(try await store.put([1, 2], key: "a").bytes == 2)
                #expect(try await store.get("a") == [1, 2])
            }
        }
    }

    @Test func `a download that breaks goes on where it stopped`() async throws {
        try await TestS3.with { direct in
            try await direct.ready()
            let bytes = Self.bytes(6_000_000)
            try await FaultyProxy.with([.cut(after: 1_000_000), .cut(after: 2_500_000)], target: try TestS3.port()) { proxy, port in
                try await TestS3.with(port: port) { store in
                    // Through a separate connection, so that the first two are those of the reading.
                    let key = "\(newIdentifier()).csv"
                    let same = try S3Objects(
                        try S3Address("s3://\(store.bucket)?endpoint=http://127.0.0.1:\(TestS3.port())", setting: "X"),
                        environment: TestS3.credentials(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
                    _ = try await same.put(bytes, key: key)
                    try await same.close()
                    var read: [UInt8] = []
                    for try await chunk in try await store.read(key, from: 7) { read += chunk }
                    #expect(read == Array(bytes.dropFirst(7)))
                    #expect(proxy.left == 0)
                }
            }
        }
    }

    @Test func `faults are reported, and no secret`() async throws {
        let url = try #require(TestS3.url)
        let tls = try #require(TestS3.tlsURL)
        for (url, environment, sentence) in [
            (url, TestS3.credentials(secret: "wrong-secret"), "does not accept the credentials (SignatureDoesNotMatch"),
            (url, ["AWS_ACCESS_KEY_ID": "unknown", "AWS_SECRET_ACCESS_KEY": "wrong-secret"], "InvalidAccessKeyId"),
            (url.replacing("s3://cohort?create=yes&", with: "s3://cohort-none?"), TestS3.credentials(), "has no bucket 'cohort-none'"),
            (tls.replacing("/ca.pem", with: "/other.pem"), TestS3.credentials(), "look at cacertfile"),
            (url.replacing(":\(try TestS3.port())", with: ":1"), TestS3.credentials(), "cannot be reached"),
            (url.replacing("http://", with: "https://"), TestS3.credentials(), "at https://127.0.0.1"),
        ] {
            let store = try S3Objects(
                try S3Address(url, setting: "X"), environment: environment, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            for error in [
                await expectError(.unavailable, { try await store.ready() }),
                await expectError(.unavailable, { try await store.put([1], key: "a") }),
            ] {
                #expect(error.contains(sentence) && !error.contains("secret"), "\(error)")
            }
            try await store.close()
        }
        for (url, environment, sentence) in [
            (tls.replacing("/ca.pem", with: "/none.pem"), TestS3.credentials(), "none.pem"),
            (url, ["AWS_ACCESS_KEY_ID": "cohort"], "AWS_SECRET_ACCESS_KEY is missing"),
            (url, ["AWS_ACCESS_KEY_ID": "cohort", "AWS_SECRET_ACCESS_KEY": "a secret\n"], "hold spaces"),
            (url, ["AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/x"], "must be https"),
        ] {
            let error = await expectError(.invalid) {
                try S3Objects(
                    try S3Address(url, setting: "X"), environment: environment,
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            }
            #expect(error.contains(sentence) && !error.contains("a secret"), "\(error)")
        }
    }

    private static func answer(_ body: String) -> FaultyProxy.Fault {
        .answer("HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n\(body)")
    }

    private static func temporary(_ id: String, seconds: Double) -> FaultyProxy.Fault {
        let expiry = Date().addingTimeInterval(seconds).formatted(.iso8601)
        return answer(#"{"Code":"Success","AccessKeyId":"\#(id)","SecretAccessKey":"s","Token":"t","Expiration":"\#(expiry)"}"#)
    }

    @Test func `an instance's role is asked for with a token, and again shortly before its credentials end`() async throws {
        try await FaultyProxy.with(
            [
                Self.answer("the-token"), Self.answer("role"), Self.temporary("one", seconds: 200), Self.answer("the-token"),
                Self.answer("role"), Self.temporary("two", seconds: 3_600),
            ], target: 1
        ) { proxy, port in
            let http = HTTPClient.cohort()
            let source = try S3CredentialSource(
                environment: ["AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:\(port)/"], http: http, patience: .minutes(2),
                now: { Date() })
            let result = await Result { [try await source.credentials(), try await source.credentials(), try await source.credentials()] }
            try await http.shutdown()
            #expect(try result.get().map(\.accessKeyId) == ["one", "two", "two"])
            #expect(try result.get().allSatisfy { $0.secretAccessKey == "s" && $0.sessionToken == "t" })
            #expect(
                proxy.requests.prefix(3).map { $0.split(separator: " HTTP").first } == [
                    "PUT /latest/api/token", "GET /latest/meta-data/iam/security-credentials/",
                    "GET /latest/meta-data/iam/security-credentials/role",
                ])
            #expect(proxy.requests[0].lowercased().contains("x-aws-ec2-metadata-token-ttl-seconds: 21600"))
            #expect(proxy.requests[1...2].allSatisfy { $0.lowercased().contains("x-aws-ec2-metadata-token: the-token") })
        }
    }

    @Test func `a container's address is asked with its authorization, and where there is nothing the places are named`() async throws {
        try await FaultyProxy.with([Self.temporary("one", seconds: 3_600)], target: 1) { proxy, port in
            let http = HTTPClient.cohort()
            let source = try S3CredentialSource(
                environment: [
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:\(port)/creds", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "auth",
                ], http: http, patience: .minutes(2), now: { Date() })
            let nowhere = try S3CredentialSource(
                environment: ["AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"], http: http, patience: .minutes(2), now: { Date() }
            )
            let result = await Result { try await source.credentials() }
            let none = await Result { try await nowhere.credentials() }
            try await http.shutdown()
            #expect(try result.get().accessKeyId == "one")
            #expect(proxy.requests.first?.hasPrefix("GET /creds ") == true)
            #expect(proxy.requests.first?.lowercased().contains("authorization: auth\r\n") == true)
            #expect(await expectError(.unavailable) { try none.get() }.contains("set AWS_ACCESS_KEY_ID"))
        }
    }

    @Test func `credentials come from the shared file, and are read again when they have changed`() async throws {
        try await TemporaryFolder.with { folder in
            let keys = TestS3.credentials()
            func write(_ secret: String) throws {
                _ = try folder.write(
                    [UInt8](
                        """
                        [default]
                        aws_access_key_id = other
                        # a comment
                        [ lab ]
                        aws_access_key_id=\(keys["AWS_ACCESS_KEY_ID"] ?? "")
                        AWS_SECRET_ACCESS_KEY = \(secret)

                        """.utf8), to: "credentials")
            }
            try write("old")
            let environment = ["AWS_SHARED_CREDENTIALS_FILE": folder.path("credentials"), "AWS_PROFILE": "lab"]
            try await TestS3.with(environment: environment) { store in
                await expectError(.unavailable) { try await store.ready() }
                try write(keys["AWS_SECRET_ACCESS_KEY"] ?? "")
                try await store.ready()
            }
            try await TestS3.with(environment: environment.merging(["AWS_PROFILE": "none"]) { $1 }) { store in
                #expect(await expectError(.unavailable) { try await store.ready() }.contains("[none]"))
            }
        }
    }
}

extension Result where Failure == any Error {
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
