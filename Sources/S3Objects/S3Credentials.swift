import AsyncHTTPClient
import CohortCore
import FoundationEssentials
import NIOCore
import NIOHTTP1

/// The credentials that sign requests.
struct S3Credentials: Equatable, Sendable {
    var accessKeyId: String
    var secretAccessKey: String
    /// The token of temporary credentials.
    var sessionToken: String?
    /// nil: they hold until they are changed.
    var expiry: Date?
}

/// Finds credentials where Amazon's own tools look, in their order: the environment, the shared credentials file, the container's
/// address, the instance's. Temporary ones are fetched again five minutes before they expire.
actor S3CredentialSource {
    private enum Place {
        case fixed(S3Credentials)
        case file(path: String, profile: String)
        case container(url: String, authorization: String?, authorizationFile: String?)
        case instance(endpoint: String)
    }

    private let place: Place
    private let http: HTTPClient
    private let now: @Sendable () -> Date
    private let patience: TimeAmount
    private var known: S3Credentials?

    /// - Parameter patience: how long an address of the container or the instance may take to answer.
    /// - Throws: ``CohortError`` `invalid` when the environment names credentials that cannot be used.
    init(
        environment: [String: String], http: HTTPClient, patience: TimeAmount = .seconds(10), now: @escaping @Sendable () -> Date
    ) throws {
        place = try Self.place(environment)
        self.http = http
        self.now = now
        self.patience = patience
    }

    /// - Throws: ``CohortError`` `unavailable` when there are none, saying where they can be put.
    func credentials() async throws -> S3Credentials {
        if let known, known.expiry.map({ $0.timeIntervalSince(now()) > 300 }) ?? true { return known }
        do {
            let fresh = try await find()
            known = fresh
            return fresh
        } catch let error as CohortError {
            // Those at hand may hold a little longer than the service that gives new ones is away.
            if let known, let expiry = known.expiry, expiry > now() { return known }
            throw error
        }
    }

    /// The store does not take them: they may have been changed since.
    func forget() { known = nil }

    private static func place(_ environment: [String: String]) throws -> Place {
        func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        let (id, secret) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"))
        if let id, let secret {
            return .fixed(
                try checked(
                    S3Credentials(accessKeyId: id, secretAccessKey: secret, sessionToken: value("AWS_SESSION_TOKEN")), "the environment"))
        }
        guard id == nil, secret == nil else {
            throw CohortError(
                .invalid,
                "\(id == nil ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY") is missing: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together"
            )
        }
        let file = value("AWS_SHARED_CREDENTIALS_FILE") ?? value("HOME").map { "\($0)/.aws/credentials" }
        if let file, value("AWS_PROFILE") != nil || FileManager.default.fileExists(atPath: file) {
            return .file(path: file, profile: value("AWS_PROFILE") ?? "default")
        }
        if let relative = value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            return .container(url: "http://169.254.170.2\(relative)", authorization: nil, authorizationFile: nil)
        }
        if let url = value("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
            // A credential must not be asked for, nor its token sent, over a network in the clear.
            let hosts = ["127.0.0.1", "localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"]
            guard url.hasPrefix("https://") || hosts.contains(where: { url.hasPrefix("http://\($0):") || url.hasPrefix("http://\($0)/") })
            else { throw CohortError(.invalid, "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or http of this machine or container") }
            return .container(
                url: url, authorization: value("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
                authorizationFile: value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"))
        }
        guard value("AWS_EC2_METADATA_DISABLED")?.lowercased() != "true" else { throw none }
        var endpoint = value("AWS_EC2_METADATA_SERVICE_ENDPOINT") ?? "http://169.254.169.254"
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        return .instance(endpoint: endpoint)
    }

    private static let none = CohortError(
        .unavailable,
        "there are no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into ~/.aws/credentials")

    private func find() async throws -> S3Credentials {
        switch place {
        case .fixed(let credentials): credentials
        case .file(let path, let profile): try Self.read(path, profile: profile)
        case .container(let url, var authorization, let file):
            try await {
                if let file {
                    guard let text = FileManager.default.contents(atPath: file) else {
                        throw CohortError(.unavailable, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, \(file), cannot be read")
                    }
                    authorization = String(decoding: text, as: UTF8.self)
                }
                let headers = authorization.map {
                    [("Authorization", $0.trimmingPrefix { $0.isWhitespace }.split(separator: "\n").joined())]
                }
                return try Self.decode(
                    try await fetch("GET", url: url, headers: headers ?? []), from: "the container's credentials address")
            }()
        case .instance(let endpoint): try await askInstance(endpoint)
        }
    }

    /// IMDSv2: a token first, then the role's name, then its credentials.
    private func askInstance(_ endpoint: String) async throws -> S3Credentials {
        let token: [UInt8]
        do {
            token = try await fetch(
                "PUT", url: "\(endpoint)/latest/api/token", headers: [("X-aws-ec2-metadata-token-ttl-seconds", "21600")])
        } catch let error as CohortError where error.code == .unavailable {
            throw Self.none
        }
        let headers = [("X-aws-ec2-metadata-token", String(decoding: token, as: UTF8.self))]
        let roles = "\(endpoint)/latest/meta-data/iam/security-credentials/"
        let role = String(decoding: try await fetch("GET", url: roles, headers: headers), as: UTF8.self).split(separator: "\n").first ?? ""
        guard !role.isEmpty else { throw CohortError(.unavailable, "this instance has no role whose credentials could be used for S3") }
        return try Self.decode(try await fetch("GET", url: roles + role, headers: headers), from: "the instance's metadata")
    }

    private func fetch(_ method: String, url: String, headers: [(String, String)]) async throws -> [UInt8] {
        var request = HTTPClientRequest(url: url)
        request.method = .init(rawValue: method)
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        let place = url.prefix { $0 != "?" }
        do {
            let response = try await http.execute(request, timeout: patience)
            let body = try await response.body.collect(upTo: 64 << 10)
            guard response.status == .ok else {
                throw CohortError(.unavailable, "\(place) answered \(response.status.code) when it was asked for S3 credentials")
            }
            return Array(body.readableBytesView)
        } catch let error as CohortError {
            throw error
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw CohortError(.unavailable, "\(place) does not answer when it is asked for S3 credentials")
        }
    }

    private struct Answer: Decodable {
        var accessKeyId: String
        var secretAccessKey: String
        var token: String?
        var expiration: String?

        /// The names in the services' answers.
        enum CodingKeys: String, CodingKey {
            case accessKeyId = "AccessKeyId"
            case secretAccessKey = "SecretAccessKey"
            case token = "Token"
            case expiration = "Expiration"
        }
    }

    private static func decode(_ bytes: [UInt8], from place: String) throws -> S3Credentials {
        guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(bytes)) else {
            throw CohortError(.unavailable, "\(place) answered something else than S3 credentials")
        }
        let expiry = answer.expiration.flatMap { try? Date($0, strategy: .iso8601) }
        return try checked(
            S3Credentials(
                accessKeyId: answer.accessKeyId, secretAccessKey: answer.secretAccessKey, sessionToken: answer.token, expiry: expiry), place
        )
    }

    /// `[profile]`, then `name = value` lines.
    private static func read(_ path: String, profile: String) throws -> S3Credentials {
        guard let bytes = FileManager.default.contents(atPath: path) else {
            throw CohortError(.unavailable, "the S3 credentials file \(path) cannot be read")
        }
        var values: [String: String] = [:]
        var section = ""
        for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
            let line = line.trimmed
            if line.hasPrefix("["), line.hasSuffix("]") {
                section = line.dropFirst().dropLast().trimmed
            } else if section == profile, !line.hasPrefix("#"), !line.hasPrefix(";"), let equals = line.firstIndex(of: "=") {
                values[line[..<equals].trimmed.lowercased()] = line[line.index(after: equals)...].trimmed
            }
        }
        guard let id = values["aws_access_key_id"], let secret = values["aws_secret_access_key"] else {
            throw CohortError(
                .unavailable,
                "\(path) has no aws_access_key_id and aws_secret_access_key under [\(profile)] (other kinds of profiles are not supported)")
        }
        return try checked(
            S3Credentials(accessKeyId: id, secretAccessKey: secret, sessionToken: values["aws_session_token"]), "\(path)")
    }

    /// They go into headers: a line feed from a file would end one. The values stay out of the error.
    private static func checked(_ credentials: S3Credentials, _ place: String) throws -> S3Credentials {
        let texts = [credentials.accessKeyId, credentials.secretAccessKey, credentials.sessionToken ?? "-"]
        guard texts.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (0x21...0x7e).contains($0) } }) else {
            throw CohortError(.invalid, "the S3 credentials of \(place) hold spaces, line ends or other characters that no key has")
        }
        return credentials
    }
}

extension StringProtocol {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
