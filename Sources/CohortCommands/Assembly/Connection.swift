import AsyncHTTPClient
import CohortClient
import CohortCore
import FoundationEssentials
import NIOSSL

/// A client for as long as `body` runs.
func withClient<Result>(
    server: String, token: String?, fingerprint: String? = nil, _ body: (CohortClient) async throws -> Result
) async throws -> Result {
    let settings = try await Settings(file: nil)
    let authorities = try settings.authorities
    let url = try await KnownServers.server(
        server, fingerprint: settings.text("fingerprint", flag: fingerprint), authorities: authorities)
    let http = HTTPClient.cohort(authorities: authorities)
    do {
        let result = try await body(CohortClient(server: url, token: token, http: http))
        try await http.shutdown()
        return result
    } catch {
        try? await http.shutdown()  // The first error is the one to tell.
        throw error
    }
}

/// A client for the person who is signed in.
func signedIn<Result>(_ connection: ConnectionOptions, _ body: (CohortClient) async throws -> Result) async throws -> Result {
    let credentials = try Credentials.load()
    let settings = try await Settings(file: nil)
    let server = settings.text("server", flag: connection.server, default: credentials.server)
    guard server == credentials.server else {
        throw CohortError(
            .unauthenticated, "the sign-in is for \(credentials.server), not for \(server): run `cohort login --server \(server)`")
    }
    do {
        return try await withClient(server: server, token: credentials.accessToken, body)
    } catch let error as CohortError where error.code == .unauthenticated {
        throw CohortError(.unauthenticated, "\(server) does not take this sign-in (\(error.message)): run `cohort login`")
    }
}

extension Settings {
    /// Trusted beside those that the machine trusts.
    /// - Throws: ``CohortError`` `invalid` for a file without certificates.
    var authorities: [NIOSSLCertificate] {
        get throws {
            guard let path = text("ca_file") else { return [] }
            do {
                return try NIOSSLCertificate.fromPEMFile(path)
            } catch {
                throw CohortError(
                    .invalid, "COHORT_CA_FILE is '\(path.printable(max: 200))': no PEM file of certificates that can be read (\(error))")
            }
        }
    }
}

extension Terminal {
    /// One line of JSON, as the API has it.
    static func print(json value: some Encodable) throws {
        printLine(String(decoding: try CohortJSON.encode(value), as: UTF8.self))
    }

    /// One line of a command that prints several: `kind` says what it is.
    static func print(line kind: String, _ value: some Encodable) throws { try print(json: JSONLine(kind: kind, value: value)) }
}

/// A value's own fields, and `kind`.
private struct JSONLine<Value: Encodable>: Encodable {
    var kind: String
    var value: Value

    private enum Key: CodingKey { case kind }

    func encode(to encoder: any Encoder) throws {
        try value.encode(to: encoder)
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(kind, forKey: .kind)
    }
}
