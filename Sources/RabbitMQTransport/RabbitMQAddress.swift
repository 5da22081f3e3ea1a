import CohortCore
import CohortSystem
import FoundationEssentials

/// The address and login of a RabbitMQ: `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`, with the query parameters of RabbitMQ's own
/// URI specification: `cacertfile`, `certfile`, `keyfile` (paths of PEM files), `verify` (`verify_peer`, the default, or `verify_none`),
/// `heartbeat` and `connection_timeout` (seconds and milliseconds).
public struct RabbitMQAddress: Equatable, Sendable, CustomStringConvertible {
    public var isTLS: Bool
    public var host: String
    public var port: Int
    public var vhost: String
    public var user: String
    public var password: String
    public var caFile: String?
    public var certificateFile: String?
    public var keyFile: String?
    public var verifiesPeer = true
    /// Seconds.
    public var heartbeat = 30
    /// Seconds.
    public var timeout = 10.0

    /// Without the password: for logs and errors.
    public var description: String { "\(isTLS ? "amqps" : "amqp")://\(host):\(port)" }

    /// Bundles of the certificate authorities that a system trusts.
    private static let systemBundles = [
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem",
    ]

    /// - Parameter setting: the setting's name, for errors; the URL itself never stands in one, as it holds a password.
    /// - Throws: ``CohortError`` `invalid`, saying which part is wrong and what would be right.
    public init(_ url: String, setting: String) throws {
        func wrong(_ what: String) -> CohortError {
            CohortError(.invalid, "\(setting): \(what); it must be amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://… for TLS")
        }
        func decoded(_ text: Substring, _ what: String) throws -> String {
            guard let text = text.percentDecoded, !text.utf8.contains(0) else { throw wrong("the \(what) has a bad % code") }
            return text
        }
        let rest: Substring
        if url.hasPrefix("amqps://") {
            (isTLS, rest) = (true, url.dropFirst(8))
        } else if url.hasPrefix("amqp://") {
            (isTLS, rest) = (false, url.dropFirst(7))
        } else {
            throw wrong("the scheme is neither amqp nor amqps")
        }
        let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = parts[0].split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        // `amqp://host` means the default virtual host; `amqp://host/` an empty name, which hardly anybody means.
        vhost = path.count > 1 && !path[1].isEmpty ? try decoded(path[1], "virtual host") : "/"
        var authority = path[0]
        (user, password) = ("guest", "guest")
        if let at = authority.lastIndex(of: "@") {
            let login = authority[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            user = try decoded(login[0], "user")
            password = login.count > 1 ? try decoded(login[1], "password") : ""
            authority = authority[authority.index(after: at)...]
        }
        port = isTLS ? 5671 : 5672
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw wrong("the host's ']' is missing") }
            host = String(authority[authority.index(after: authority.startIndex)..<end])
            authority = authority[authority.index(after: end)...]
        } else {
            let colon = authority.firstIndex(of: ":") ?? authority.endIndex
            host = String(authority[..<colon])
            authority = authority[colon...]
        }
        if !authority.isEmpty {
            guard authority.hasPrefix(":"), let number = Int(authority.dropFirst()), (1...65_535).contains(number) else {
                throw wrong("the port is not a number from 1 to 65535")
            }
            port = number
        }
        guard !host.isEmpty else { throw wrong("the host is missing") }
        for pair in parts.dropFirst().joined().split(separator: "&") {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let (name, value) = (String(sides[0]), sides.count > 1 ? try decoded(sides[1], "parameter \(sides[0].prefix(40))") : "")
            switch name {
            case "cacertfile": caFile = value
            case "certfile": certificateFile = value
            case "keyfile": keyFile = value
            case "verify":
                guard ["verify_peer", "verify_none"].contains(value) else { throw wrong("verify must be verify_peer or verify_none") }
                verifiesPeer = value == "verify_peer"
            case "heartbeat":
                guard let seconds = Int(value), (1...3_600).contains(seconds) else {
                    throw wrong("heartbeat must be from 1 to 3600 seconds")
                }
                heartbeat = seconds
            case "connection_timeout":
                guard let milliseconds = Int(value), (1...600_000).contains(milliseconds) else {
                    throw wrong("connection_timeout must be from 1 to 600000 milliseconds")
                }
                timeout = Double(milliseconds) / 1000
            default:
                throw CohortError(
                    .invalid,
                    "\(setting) has the unknown parameter '\(name.prefix(40))'; the known ones are cacertfile, certfile, keyfile, verify, heartbeat, connection_timeout"
                )
            }
        }
        if !isTLS, caFile != nil || certificateFile != nil {
            throw wrong("cacertfile and certfile are for amqps")
        }
        guard (certificateFile == nil) == (keyFile == nil) else { throw wrong("certfile and keyfile go together") }
        if isTLS, caFile == nil { caFile = Self.systemBundles.first { FileManager.default.fileExists(atPath: $0) } }
    }

    /// The URL of another account, without the paths of files, which are this machine's.
    func url(user: String, password: String) -> String {
        let place = host.contains(":") ? "[\(host)]" : host
        let path = vhost == "/" ? "" : "/\(vhost.percentEncoded())"
        return "\(isTLS ? "amqps" : "amqp")://\(user.percentEncoded()):\(password.percentEncoded())@\(place):\(port)\(path)"
            + "?heartbeat=\(heartbeat)\(isTLS && !verifiesPeer ? "&verify=verify_none" : "")"
    }
}
