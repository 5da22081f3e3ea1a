import CohortCore
import CohortSystem
import FoundationEssentials

/// Which bucket, and where: `s3://BUCKET[/PREFIX]` with the query parameters `endpoint` (`https://HOST[:PORT]` of a store other than Amazon's),
/// `public_endpoint` (how peers reach it, where that differs), `region`, `style` (`path` or `virtual`), `cacertfile` (a PEM file) and
/// `create` (`yes`: makes the bucket where there is none).
public struct S3Address: Equatable, Sendable, CustomStringConvertible {
    /// `http` or `https`, a host, a port where it is not the scheme's own.
    struct Endpoint: Equatable, Sendable, CustomStringConvertible {
        var isTLS: Bool
        /// The host with the port, as in URLs and in the Host header.
        var authority: String

        var description: String { "\(isTLS ? "https" : "http")://\(authority)" }
    }

    public var bucket: String
    /// The prefix of every key in the bucket: empty, or a path with a slash at its end.
    var prefix = ""
    /// nil: the one that the environment names, else `us-east-1`.
    var region: String?
    /// nil: Amazon's, of the region.
    var endpoint: Endpoint?
    var publicEndpoint: Endpoint?
    /// The bucket is part of the path, as in `https://HOST/BUCKET/KEY`, not of the host's name.
    var isPathStyle: Bool
    public var caFile: String?
    var creates = false

    public var description: String { "s3://\(bucket)/\(prefix)\(endpoint.map { " at \($0)" } ?? "")" }

    private static let parameters = ["endpoint", "public_endpoint", "region", "style", "cacertfile", "create"]

    /// - Parameter setting: the setting's name, for errors.
    /// - Throws: ``CohortError`` `invalid`, saying which part is wrong and what would be right.
    public init(_ url: String, setting: String) throws {
        func wrong(_ what: String) -> CohortError {
            CohortError(
                .invalid, "\(setting): \(what); it must look like s3://BUCKET?region=REGION or s3://BUCKET?endpoint=https://HOST:PORT")
        }
        guard url.hasPrefix("s3://") else { throw wrong("the scheme is not s3") }
        let parts = url.dropFirst(5).split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = parts[0].split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard !path[0].contains("@") else {
            throw wrong("credentials do not stand in the URL: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        }
        bucket = String(path[0])
        guard Self.isBucket(bucket) else {
            throw wrong("'\(bucket.printable(max: 70))' is no bucket's name (3 to 63 of a-z, 0-9, '.' and '-')")
        }
        if path.count > 1 {
            var prefix = path[1]
            while prefix.hasSuffix("/") { prefix = prefix.dropLast() }
            if !prefix.isEmpty { self.prefix = try ObjectKey(String(prefix)).text + "/" }
        }
        var style: String?
        for pair in parts.dropFirst().joined().split(separator: "&") {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let value = sides.dropFirst().joined(separator: "=").percentDecoded else {
                throw wrong("the parameter \(sides[0].prefix(40)) has a bad % code")
            }
            switch sides[0] {
            case "endpoint": endpoint = try Self.endpoint(value, wrong)
            case "public_endpoint": publicEndpoint = try Self.endpoint(value, wrong)
            case "region":
                guard (1...64).contains(value.utf8.count), value.utf8.allSatisfy({ $0 == UInt8(ascii: "-") || $0.isASCIIAlphanumeric })
                else {
                    throw wrong("'\(value.printable(max: 70))' is no region")
                }
                region = value
            case "style":
                guard ["path", "virtual"].contains(value) else { throw wrong("style must be path or virtual") }
                style = value
            case "cacertfile": caFile = value
            case "create":
                guard ["yes", "no"].contains(value) else { throw wrong("create must be yes or no") }
                creates = value == "yes"
            default:
                throw CohortError(
                    .invalid,
                    "\(setting) has the unknown parameter '\(sides[0].prefix(40))'; the known ones are \(Self.parameters.joined(separator: ", "))"
                )
            }
        }
        // A private host seldom has a name for every bucket; a name with dots does not match Amazon's certificate.
        isPathStyle = style.map { $0 == "path" } ?? (endpoint != nil || bucket.contains("."))
        if caFile != nil, endpoint?.isTLS != true { throw wrong("cacertfile is for an https endpoint") }
        if publicEndpoint != nil, endpoint == nil { throw wrong("public_endpoint is for a store that has an endpoint") }
    }

    private static func endpoint(_ text: String, _ wrong: (String) -> CohortError) throws -> Endpoint {
        let text = text.hasSuffix("/") ? text.dropLast() : text[...]
        let isTLS = text.hasPrefix("https://")
        guard isTLS || text.hasPrefix("http://") else { throw wrong("an endpoint begins with https:// or http://") }
        let authority = text.dropFirst(isTLS ? 8 : 7)
        guard !authority.contains("@") else { throw wrong("credentials do not stand in an endpoint") }
        let name = authority.utf8.filter { $0 != UInt8(ascii: ":") }
        let isHost = name.allSatisfy {
            $0.isASCIIAlphanumeric || [UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "["), UInt8(ascii: "]")].contains($0)
        }
        guard !name.isEmpty, isHost, let components = URLComponents(string: String(text)), let host = components.host, !host.isEmpty,
            components.port.map({ (1...65_535).contains($0) }) ?? !authority.hasSuffix(":")
        else { throw wrong("'\(String(text).printable(max: 100))' is no endpoint: it is a scheme, a host and, if need be, a port") }
        let isStandard = components.port == (isTLS ? 443 : 80)
        // As clients write it in the Host header, which is signed: without the scheme's own port.
        let trimmed = isStandard ? authority.prefix(upTo: authority.lastIndex(of: ":") ?? authority.endIndex) : authority
        return Endpoint(isTLS: isTLS, authority: trimmed.lowercased())
    }

    private static func isBucket(_ name: String) -> Bool {
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"): true
            default: false
            }
        }
        return allowed && (3...63).contains(name.utf8.count) && name.first != "." && name.first != "-" && name.last != "."
            && name.last != "-" && !name.contains("..")
    }
}

extension UInt8 {
    fileprivate var isASCIIAlphanumeric: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: false
        }
    }
}
