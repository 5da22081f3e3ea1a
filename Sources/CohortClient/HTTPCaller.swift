import AsyncHTTPClient
import CohortAPI
import CohortCore
import CohortSession
import CohortSystem
import NIOCore
import NIOHTTP1
import NIOPosix
import _NIOFileSystem

/// One call of the HTTP API.
struct HTTPCall: Sendable {
    var method: HTTPMethod = .GET
    var path: [String]
    var query: [(String, String)] = []
    var headers: HTTPHeaders = [:]
    var body: HTTPClientRequest.Body?
    /// Until the answer's head is there.
    var timeout: TimeAmount = .seconds(60)
    /// The number of retries after a broken connection; only for idempotent calls.
    var retries = 0

    static func get(_ path: String..., query: [(String, String)] = []) -> HTTPCall { HTTPCall(path: path, query: query, retries: 2) }
    static func delete(_ path: String..., query: [(String, String)] = []) -> HTTPCall {
        HTTPCall(method: .DELETE, path: path, query: query, retries: 2)
    }
    static func post(_ path: String..., json: some Encodable) throws -> HTTPCall {
        HTTPCall(
            method: .POST, path: path, headers: ["Content-Type": "application/json"],
            body: .bytes(ByteBuffer(bytes: try CohortJSON.encode(json))))
    }
    /// One whose body confirms it. It may take as long as what is deleted takes to end.
    static func delete(_ path: String..., json: some Encodable) throws -> HTTPCall {
        HTTPCall(
            method: .DELETE, path: path, headers: ["Content-Type": "application/json"],
            body: .bytes(ByteBuffer(bytes: try CohortJSON.encode(json))), timeout: .seconds(120))
    }
    static func post(_ path: String...) -> HTTPCall { HTTPCall(method: .POST, path: path) }
}

/// Sends calls to one server and turns whatever goes wrong into ``CohortError``s.
struct HTTPCaller: Sendable {
    let http: HTTPClient
    let server: ServerURL
    var token: String?

    /// Largest JSON answer read into memory.
    private static let maxAnswerBytes = 256 << 20

    /// The answer of a 2xx status, its body still to come.
    func open(_ call: HTTPCall) async throws -> HTTPClientResponse {
        var request = server.request(server.url(call.path, query: call.query))
        request.method = call.method
        request.headers = call.headers
        // By which a person tells one sign-in from another.
        request.headers.replaceOrAdd(name: "User-Agent", value: "cohort/\(CohortVersion.current)")
        request.body = call.body
        if let token { request.headers.replaceOrAdd(name: "Authorization", value: "Bearer \(token)") }
        var backoff = Backoff(first: 0.1)
        var retries = call.retries
        while true {
            do {
                let response = try await execute(request, timeout: call.timeout)
                try await Self.check(response, from: .server(server))
                return response
            } catch let error as BrokenConnection {
                guard retries > 0, error.mayHaveWorked else { throw error.error }
                retries -= 1
                try await Task.sleep(for: backoff.next())
            }
        }
    }

    func send(_ call: HTTPCall) async throws {
        let response = try await open(call)
        // Read to its end, so that the connection can be used again.
        _ = try await body(of: response)
    }

    func fetch<Value: Decodable>(_ call: HTTPCall, as type: Value.Type = Value.self) async throws -> Value {
        let buffer = try await body(of: try await open(call))
        do {
            return try CohortJSON.decode(type, from: buffer.readableBytesView)
        } catch let error as CohortError {
            throw CohortError(.internal, "\(server) answered what this version of Cohort does not understand: \(error.message)")
        }
    }

    func body(of response: HTTPClientResponse) async throws -> ByteBuffer {
        do {
            return try await response.body.collect(upTo: Self.maxAnswerBytes)
        } catch {
            throw BrokenConnection(error, remote: .server(server)).error
        }
    }

    private func execute(_ request: HTTPClientRequest, timeout: TimeAmount) async throws -> HTTPClientResponse {
        do {
            return try await http.execute(request, timeout: timeout)
        } catch {
            throw BrokenConnection(error, remote: .server(server))
        }
    }

    /// - Throws: what the problem document of an error status says, else what the status means.
    static func check(_ response: HTTPClientResponse, from server: Remote) async throws {
        let status = response.status
        guard !(200..<300).contains(status.code) else { return }
        if (300..<400).contains(status.code), let target = response.headers.first(name: "Location") {
            throw CohortError(.invalid, "\(server) sends us on to \(target): use that as the server's URL")
        }
        let buffer = try? await response.body.collect(upTo: 64 << 10)
        if let buffer, let problem = try? CohortJSON.decode(API.Problem.self, from: buffer.readableBytesView) {
            throw CohortError(CohortError.Code(rawValue: problem.code) ?? CohortError.Code(status: Int(status.code)), problem.detail)
        }
        throw CohortError(CohortError.Code(status: Int(status.code)), "\(server) answered \(status.code) \(status.reasonPhrase)")
    }
}

extension CohortError.Code {
    init(status: Int) {
        self =
            switch status {
            case 401: .unauthenticated
            case 403: .forbidden
            case 404, 410: .notFound
            case 409: .conflict
            case 413: .tooLarge
            case 400..<500 where status != 408 && status != 429: .invalid
            case 408, 429, 502, 503, 504: .unavailable
            case 507: .storageFull
            default: .internal
            }
    }
}

/// A call that got no answer.
struct BrokenConnection: Error {
    /// The error to report: a ``CohortError`` or `CancellationError`.
    let error: any Error
    /// An open connection broke: an immediate retry may succeed.
    let mayHaveWorked: Bool

    init(_ cause: any Error, remote server: Remote) {
        func unreachable(_ detail: String = "") -> CohortError {
            CohortError(.unavailable, "cannot reach \(server)\(detail): \(server.hint)")
        }
        mayHaveWorked = Self.isBroken(cause)
        switch cause {
        case is CancellationError:
            error = CancellationError()
        case let cause as CohortError:
            error = cause
        case let cause as HTTPClientError where cause == .cancelled:
            error = CancellationError()
        case let cause as HTTPClientError where cause == .connectTimeout:
            error = unreachable(" (no answer to the connection)")
        case let cause as HTTPClientError where cause == .deadlineExceeded || cause == .readTimeout:
            error = CohortError(.unavailable, "\(server) does not answer in time")
        case let cause as HTTPClientError where cause == .bodyLengthMismatch:
            error = CohortError(.invalid, "the file changed while it was sent: send it again when no program writes to it")
        case let cause as IOError where cause.errnoCode == Errno.connectionRefused.rawValue:
            error = unreachable()
        case let cause as HTTPClientError where cause == .remoteConnectionClosed:
            let tls = server.isPlain ? ": it may speak TLS, and then its URL begins with https://" : ""
            error = CohortError(.unavailable, "\(server) closed the connection before it answered\(tls)")
        case let cause as IOError:
            error = CohortError(
                .unavailable, "the connection to \(server) broke: \(Errno(rawValue: cause.errnoCode))")
        case is HTTPParserError:
            error = CohortError(.unavailable, "what answers at \(server) does not speak HTTP: is it a Cohort server?")
        case is ChannelError:
            error = CohortError(.unavailable, "the connection to \(server) ended before the answer was whole")
        case let cause as HTTPClientError:
            error = CohortError(.unavailable, "the connection to \(server) broke (\(cause.shortDescription.lowercased()))")
        case let cause as NIOConnectionError:
            // Every address refused, or there is none.
            error =
                cause.connectionErrors.isEmpty
                ? CohortError(
                    .unavailable, "cannot reach \(server): there is no host '\(cause.host.printable(max: 100))' that this machine knows of")
                : unreachable()
        default:
            error = Self.handshake(cause, server) ?? unreachable(" (\(cause))")
        }
    }

    /// Sentences for BoringSSL's reasons, which have no types.
    private static func handshake(_ cause: any Error, _ server: Remote) -> CohortError? {
        let text = "\(cause)"
        if text.contains("WRONG_VERSION_NUMBER") || text.contains("HTTP_REQUEST") {
            return CohortError(.invalid, "\(server) does not speak TLS: its URL begins with http://, not https://")
        }
        if text.contains("CERTIFICATE_VERIFY_FAILED") || text.contains("unableToValidateCertificate")
            || text.contains("failedToValidateHostname")
        {
            if case .server(let url) = server, url.certificate != nil {
                return CohortError(
                    .invalid,
                    "the certificate of \(server) differs from the one that this machine first saw: the connection may be intercepted. If the operator confirms that it is new, `cohort login --server \(server) --fingerprint NEW` trusts it"
                )
            }
            return CohortError(
                .invalid, "the certificate of \(server) is none that this machine trusts, or has expired, or is another host's")
        }
        return nil
    }

    private static func isBroken(_ cause: any Error) -> Bool {
        switch cause {
        case let cause as HTTPClientError:
            ![.cancelled, .connectTimeout, .deadlineExceeded, .readTimeout, .bodyLengthMismatch].contains(cause)
        case let cause as IOError: cause.errnoCode != Errno.connectionRefused.rawValue
        case is ChannelError, is HTTPParserError: true
        default: false
        }
    }
}
