import CohortCore
import FoundationEssentials

/// Where a Cohort server is: `http://HOST:PORT` or `https://…`, with a path when it stands behind a proxy.
public struct ServerURL: Hashable, Sendable, CustomStringConvertible {
    /// Without a slash at the end.
    public let text: String

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
            guard (1...65_535).contains(port) else { throw wrong("port \(port) cannot be") }
        }
        var trimmed = text[...]
        while trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
        self.text = String(trimmed)
    }

    public var description: String { text }

    /// A link of a message: a path is meant relative to this server, an absolute URL stays as it is.
    /// - Throws: ``CohortError`` `invalid` for anything else.
    public func resolve(_ link: String) throws -> String {
        if link.hasPrefix("/") { return text + link }
        let lowercased = link.prefix(8).lowercased()
        if lowercased.hasPrefix("http://") || lowercased.hasPrefix("https://") { return link }
        throw CohortError(.invalid, "the link '\(link.prefix(100))' is neither a path of the server nor an http(s) URL")
    }

    func url(_ segments: [String], query: [(String, String)] = []) -> String {
        let path = segments.map { "/" + Self.encoded($0) }.joined()
        let pairs = query.map { "\(Self.encoded($0))=\(Self.encoded($1))" }.joined(separator: "&")
        return text + path + (pairs.isEmpty ? "" : "?\(pairs)")
    }

    /// Percent-encoded but for the unreserved characters of RFC 3986.
    static func encoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                bytes.append(byte)
            default:
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
