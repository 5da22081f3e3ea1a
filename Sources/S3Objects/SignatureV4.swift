import CohortSystem
import Crypto
import FoundationEssentials

/// AWS Signature Version 4 for S3, in the `Authorization` header or in a presigned URL's query.
/// Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference.
struct SignatureV4: Sendable {
    var credentials: S3Credentials
    var region: String

    static let emptyPayload = SHA256.hash(data: [UInt8]()).hexadecimal
    static let unsignedPayload = "UNSIGNED-PAYLOAD"

    /// - Parameters:
    ///   - path: percent-encoded.
    ///   - query: names and values, not encoded.
    ///   - headers: lowercase names and values; all are signed, `host` and `x-amz-content-sha256` among them.
    ///   - payload: SHA-256 of the body in hexadecimal.
    /// - Returns: `headers` with `x-amz-date`, `x-amz-security-token` where there is one, and `authorization`.
    func headers(
        _ method: String, path: String, query: [(String, String)], headers: [(String, String)], payload: String, date: Date
    ) -> [(String, String)] {
        let time = Self.timestamp(date)
        var headers = headers + [("x-amz-date", time)]
        if let token = credentials.sessionToken { headers.append(("x-amz-security-token", token)) }
        let names = headers.map(\.0).sorted().joined(separator: ";")
        let signature = sign(
            time, canonical(method, path: path, query: Self.encoded(query), headers: headers, names: names, payload: payload))
        let authorization =
            "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyId)/\(scope(time)),SignedHeaders=\(names),Signature=\(signature)"
        headers.append(("authorization", authorization))
        return headers
    }

    /// The query, encoded, of a URL that needs no other credentials for `seconds`.
    /// - Parameter host: as it stands in the URL, with its port.
    func presignedQuery(_ method: String, host: String, path: String, seconds: Int, date: Date) -> String {
        let time = Self.timestamp(date)
        var query = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", "\(credentials.accessKeyId)/\(scope(time))"),
            ("X-Amz-Date", time), ("X-Amz-Expires", "\(seconds)"), ("X-Amz-SignedHeaders", "host"),
        ]
        if let token = credentials.sessionToken { query.append(("X-Amz-Security-Token", token)) }
        let encoded = Self.encoded(query)
        let signature = sign(
            time,
            canonical(method, path: path, query: encoded, headers: [("host", host)], names: "host", payload: Self.unsignedPayload))
        return "\(encoded)&X-Amz-Signature=\(signature)"
    }

    /// Sorted, and percent-encoded but for RFC 3986's unreserved characters.
    static func encoded(_ query: [(String, String)]) -> String {
        query.map { "\($0.percentEncoded())=\($1.percentEncoded())" }.sorted().joined(separator: "&")
    }

    private func canonical(
        _ method: String, path: String, query: String, headers: [(String, String)], names: String, payload: String
    ) -> String {
        let lines = headers.sorted { $0.0 < $1.0 }.map { "\($0):\($1)\n" }.joined()
        return "\(method)\n\(path)\n\(query)\n\(lines)\n\(names)\n\(payload)"
    }

    private func sign(_ time: String, _ request: String) -> String {
        let text = "AWS4-HMAC-SHA256\n\(time)\n\(scope(time))\n\(SHA256.hash(data: [UInt8](request.utf8)).hexadecimal)"
        var key = [UInt8]("AWS4\(credentials.secretAccessKey)".utf8)
        for part in [String(time.prefix(8)), region, "s3", "aws4_request", text] {
            key = Array(HMAC<SHA256>.authenticationCode(for: [UInt8](part.utf8), using: SymmetricKey(data: key)))
        }
        return key.hexadecimal
    }

    private func scope(_ time: String) -> String { "\(time.prefix(8))/\(region)/s3/aws4_request" }

    /// `20130524T000000Z`.
    static func timestamp(_ date: Date) -> String {
        date.formatted(Date.ISO8601FormatStyle(dateSeparator: .omitted, dateTimeSeparator: .standard, timeSeparator: .omitted))
    }
}
