import AsyncHTTPClient
import CohortCore
import CohortSystem
import FoundationEssentials
public import NIOSSL

/// The address of a Cohort server: `http://HOST:PORT` or `https://…`, with a path when it stands behind a proxy.
public struct ServerURL: Hashable, Sendable, CustomStringConvertible {
    /// Without a slash at the end.
    public let text: String
    /// The one certificate that the server may show, whatever its host name; nil: one that an authority vouches for.
    public var certificate: NIOSSLCertificate?

    /// - Throws: ``CohortError`` `invalid`, saying what is wrong with `text` and what would be right.
    public init(_ text: String) throws {
        func wrong(_ what: String) -> CohortError {
            CohortError(
                .invalid, "'\(text)' is not a server's URL: \(what); it must look like http://127.0.0.1:8080 or https://cohort.example.org")
        }
        guard let components = URLComponents(string: text), let scheme = components.scheme?.lowercased() else {
            throw wrong("it does not begin with http:// or https://")
        }
        guard scheme == "http" || scheme == "https" else { throw wrong("it does not begin with http:// or https://") }
        guard let host = components.host, !host.isEmpty else { throw wrong("it names no host") }
        guard components.user == nil, components.password == nil else { throw wrong("it holds a user name or password") }
        guard components.query == nil, components.fragment == nil else { throw wrong("it has a query or a fragment") }
        if let port = components.port {
            guard (1...65_535).contains(port) else { throw wrong("port \(port) is out of range") }
        }
        var trimmed = text[...]
        while trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
        self.text = String(trimmed)
    }

    public var description: String { text }

    public var isTLS: Bool { text.lowercased().hasPrefix("https://") }

    /// `HOST:PORT`.
    public var place: String {
        let components = URLComponents(string: text)
        return "\(components?.host ?? ""):\(components?.port ?? (isTLS ? 443 : 80))"
    }

    /// The host and port of the connection.
    var address: (host: String, port: Int) {
        let components = URLComponents(string: text)
        let host = components?.host ?? ""
        return (host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host, components?.port ?? (isTLS ? 443 : 80))
    }

    /// A request to a URL of the server, or to another that it has named.
    func request(_ url: String) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: url)
        if url.hasPrefix("\(text)/") { request.tlsConfiguration = certificate.map(TLSConfiguration.pinned) }
        return request
    }

    /// A link of a message: a path is meant relative to this server, an absolute URL stays as it is.
    /// - Throws: ``CohortError`` `invalid` for anything else.
    public func resolve(_ link: String) throws -> String {
        if link.hasPrefix("/") { return text + link }
        let lowercased = link.prefix(8).lowercased()
        if lowercased.hasPrefix("http://") || lowercased.hasPrefix("https://") { return link }
        throw CohortError(.invalid, "the link '\(link.prefix(100))' is neither a path of the server nor an http(s) URL")
    }

    func url(_ segments: [String], query: [(String, String)] = []) -> String {
        let path = segments.map { "/" + $0.percentEncoded() }.joined()
        let pairs = query.map { "\($0.percentEncoded())=\($1.percentEncoded())" }.joined(separator: "&")
        return text + path + (pairs.isEmpty ? "" : "?\(pairs)")
    }
}

/// Who is at the other end of a connection, for errors.
enum Remote: CustomStringConvertible, Sendable {
    case server(ServerURL)
    /// An object store that a link of the server leads to, as `https://HOST:PORT`.
    case store(String)

    /// - Parameter url: resolved.
    init(_ url: String, from server: ServerURL) {
        if url.hasPrefix("\(server.text)/") {
            self = .server(server)
        } else {
            self = .store(url.split(separator: "/", omittingEmptySubsequences: false).prefix(3).joined(separator: "/"))
        }
    }

    var description: String {
        switch self {
        case .server(let url): url.text
        case .store(let origin): origin
        }
    }

    /// It is reached without TLS.
    var isPlain: Bool {
        switch self {
        case .server(let url): !url.isTLS
        case .store(let origin): !origin.hasPrefix("https://")
        }
    }

    /// A hint for when it cannot be reached.
    var hint: String {
        switch self {
        case .server: "is `cohort serve` running?"
        case .store: "it is the store that the server's links lead to, and this machine must reach it as well"
        }
    }
}
