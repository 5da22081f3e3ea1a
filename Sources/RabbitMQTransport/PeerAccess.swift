import AsyncHTTPClient
import CohortCore
import CohortSystem
import FoundationEssentials
public import Logging
import NIOCore
import NIOHTTP1
import NIOSSL

/// The RabbitMQ accounts of peers that speak AMQP themselves: each has a separate account, made through the management API, that can read its
/// command queue and publish events, and nothing else; or all by one account that they share.
public final class PeerAccess: Sendable {
    static let accountPrefix = "cohort.peer."
    static func account(of peerId: String) -> String { accountPrefix + peerId }

    private let address: RabbitMQAddress
    private let admin: Admin?

    private struct Admin: Sendable {
        var url: String
        var authorization: String
        var http: HTTPClient
    }

    /// - Parameters:
    ///   - address: as peers reach the RabbitMQ; without `admin` with the account that they share.
    ///   - admin: `http(s)://USER:PASSWORD@HOST:PORT` of the management API; `?cacertfile=PATH` names the authorities that signed its certificate.
    ///   - setting: its setting's name, for errors.
    /// - Throws: ``CohortError`` `invalid` for an invalid URL.
    public init(address: RabbitMQAddress, admin: String?, setting: String, logger: Logger) throws {
        self.address = address
        guard let admin else {
            self.admin = nil
            logger.notice(
                "peers that speak AMQP share the account '\(address.user)': each of them can read the commands of the others. COHORT_BROKER_ADMIN_URL gives each a separate account"
            )
            return
        }
        guard let components = URLComponents(string: admin), let scheme = components.scheme, ["http", "https"].contains(scheme),
            let host = components.host, !host.isEmpty, let user = components.user, let password = components.password
        else {
            throw CohortError(
                .invalid, "\(setting) must look like https://USER:PASSWORD@HOST:15671, the management API of the RabbitMQ")
        }
        let login = Data("\(user.percentDecoded ?? user):\(password.percentDecoded ?? password)".utf8).base64EncodedString()
        let place = host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow, timeout: .init(connect: .seconds(5), read: .seconds(10)))
        configuration.httpVersion = .http1Only
        configuration.tracing.tracer = nil
        configuration.tlsConfiguration = try Self.trust(components, setting)
        self.admin = Admin(
            url: "\(scheme)://\(place)\(components.port.map { ":\($0)" } ?? "")", authorization: "Basic \(login)",
            http: HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration))
    }

    /// Returns the trust of the URL's parameter `cacertfile`; nil: the system's authorities.
    private static func trust(_ components: URLComponents, _ setting: String) throws -> TLSConfiguration? {
        guard let items = components.queryItems else { return nil }
        guard items.count == 1, items[0].name == "cacertfile", let path = items[0].value, components.scheme == "https" else {
            throw CohortError(.invalid, "\(setting) has parameters; the one there is, with https, is cacertfile")
        }
        var tls = TLSConfiguration.makeClientConfiguration()
        do {
            tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(path))
        } catch {
            throw CohortError(.invalid, "\(setting): the certificates of '\(path)' cannot be read")
        }
        return tls
    }

    deinit {
        // It is still open when the transport has not run.
        if let admin { admin.http.shutdown { _ in } }
    }

    func close() async {
        // It has no calls under way any more; a second end of it is none.
        try? await admin?.http.shutdown()
    }

    /// - Returns: the URL that the peer logs in by.
    func admit(peerId: String, queue: QueueName) async throws -> String {
        guard let admin else { return address.url(user: address.user, password: address.password) }
        let account = Self.account(of: peerId)
        let password = (0..<32).map { _ in UInt8.random(in: 0...255) }.hexadecimal
        try await call(admin, method: .PUT, path: ["users", account], body: #"{"password":"\#(password)","tags":""}"#)
        // Regular expressions. Ids are of letters, digits and hyphens.
        try await call(
            admin, method: .PUT, path: ["permissions", address.vhost, account],
            body: #"{"configure":"^$","write":"^cohort\\.events$","read":"^peer\\.\#(peerId)\\.command$"}"#)
        try await call(
            admin, method: .PUT, path: ["topic-permissions", address.vhost, account],
            body: #"{"exchange":"\#(RabbitMQTransport.eventExchange)","write":"^coordinator\\.[0-9a-zA-Z-]+\\.events$","read":"^$"}"#)
        return address.url(user: account, password: password)
    }

    func revoke(peerId: String) async throws {
        guard let admin else { return }
        try await call(admin, method: .DELETE, path: ["users", Self.account(of: peerId)], body: nil)
    }

    private func call(_ admin: Admin, method: HTTPMethod, path: [String], body: String?) async throws {
        var request = HTTPClientRequest(url: "\(admin.url)/api/\(path.map { $0.percentEncoded() }.joined(separator: "/"))")
        request.method = method
        request.headers = ["Authorization": admin.authorization, "Content-Type": "application/json"]
        if let body { request.body = .bytes(ByteBuffer(string: body)) }
        let status: HTTPResponseStatus
        do {
            let response = try await admin.http.execute(request, timeout: .seconds(15))
            status = response.status
            _ = try await response.body.collect(upTo: 1 << 20)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw CohortError(.unavailable, "RabbitMQ's management API at \(admin.url) cannot be reached: \(error)")
        }
        switch status.code {
        case 200..<300: return
        case 404 where method == .DELETE: return
        case 401, 403:
            throw CohortError(
                .unavailable,
                "RabbitMQ's management API at \(admin.url) refuses the account of COHORT_BROKER_ADMIN_URL: it needs the tag administrator")
        default:
            throw CohortError(
                .unavailable,
                "RabbitMQ's management API at \(admin.url) answered \(status.code) to \(method) \(path[0]) of a peer's account")
        }
    }
}
