import AsyncHTTPClient
import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import Logging
import NIOCore
import NIOHTTP1
import NIOSSL
import SystemPackage

/// One call of the S3 API. Repeating it changes nothing.
struct S3Call: Sendable {
    var method = "GET"
    /// nil: the bucket itself.
    var key: String?
    var query: [(String, String)] = []
    /// Lowercase names.
    var headers: [(String, String)] = []
    var body = ByteBuffer()
    /// SHA-256 of the body, in hexadecimal; nil: it is computed.
    var payload: String?
    /// The purpose, for errors: "object a/b.csv could not be stored".
    var purpose: String
}

/// A refusal of the store.
struct S3Refusal: Error {
    var status: Int
    /// `NoSuchKey`, `SlowDown`; empty for an answer that has none.
    var code: String
    var message: String
}

/// Signs calls, sends them, sends them again where that can help, and says what went wrong.
struct S3Client: Sendable {
    let address: S3Address
    let region: String
    let http: HTTPClient
    let source: S3CredentialSource
    let now: @Sendable () -> Date
    let logger: Logger

    /// The maximum number of attempts of a call.
    private static let attempts = 6

    init(_ address: S3Address, environment: [String: String], now: @escaping @Sendable () -> Date, logger: Logger) throws {
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow, timeout: .init(connect: .seconds(5), read: .seconds(60)))
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 32
        configuration.httpVersion = .http1Only
        if let file = address.caFile {
            var tls = TLSConfiguration.makeClientConfiguration()
            do {
                tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(file))
            } catch {
                throw CohortError(.invalid, "cacertfile of COHORT_OBJECTS_URL, \(file), cannot be read as PEM certificates: \(error)")
            }
            configuration.tlsConfiguration = tls
        }
        configuration.tracing.tracer = nil
        let http = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
        do {
            source = try S3CredentialSource(environment: environment, http: http, now: now)
        } catch {
            try? http.syncShutdown()  // It has done nothing yet.
            throw error
        }
        self.http = http
        self.address = address
        self.now = now
        self.logger = logger
        region =
            address.region ?? environment["AWS_REGION"].flatMap { $0.isEmpty ? nil : $0 }
            ?? environment["AWS_DEFAULT_REGION"].flatMap { $0.isEmpty ? nil : $0 } ?? "us-east-1"
    }

    /// The head of a 2xx answer, its body still to come.
    /// - Throws: ``S3Refusal`` for what the store answers at last, ``CohortError`` `unavailable` when it cannot be reached.
    func open(_ call: S3Call) async throws -> HTTPClientResponse {
        let payload = call.payload ?? Self.hash(call.body)
        var backoff = Backoff(first: 0.1, longest: 5)
        var hasRenewed = false
        for attempt in 1... {
            let failure: any Error
            do {
                let response = try await http.execute(try await request(call, payload: payload), timeout: .minutes(10))
                guard !(200..<300).contains(response.status.code) else { return response }
                let refusal = try await refusal(response)
                if refusal.isAboutCredentials, !hasRenewed {
                    // They may have been changed since they were read.
                    hasRenewed = true
                    await source.forget()
                    continue
                }
                guard refusal.isPassing else { throw refusal }
                failure = refusal
            } catch let error as S3Refusal {
                throw error
            } catch let error as CohortError {
                throw error
            } catch {
                let mapped = unreachable(error)
                // The store is unreachable: the caller decides how long to retry.
                guard attempt < Self.attempts, isBroken(error) else { throw mapped }
                failure = mapped
            }
            guard attempt < Self.attempts else { throw failure }
            logger.debug("\(call.purpose): \(failure); trying again")
            try await Task.sleep(for: backoff.next())
        }
        throw CancellationError()
    }

    private static func hash(_ body: ByteBuffer) -> String {
        var digest = SHA256()
        body.withUnsafeReadableBytes { digest.update(bufferPointer: $0) }
        return digest.finalize().hexadecimal
    }

    /// The whole answer.
    func send(_ call: S3Call) async throws -> (head: HTTPHeaders, body: [UInt8]) {
        let response = try await open(call)
        do {
            let body = try await response.body.collect(upTo: 32 << 20)
            try Task.checkCancellation()
            return (response.headers, Array(body.readableBytesView))
        } catch {
            throw unreachable(error)
        }
    }

    /// The XML answer.
    func ask(_ call: S3Call) async throws -> S3Answer {
        guard let answer = S3Answer(try await send(call).body) else {
            throw CohortError(.unavailable, "\(call.purpose): \(address) answered something that is not S3's: is it an S3 endpoint?")
        }
        return answer
    }

    func presigned(_ method: String, _ key: String, expiry: Date) async throws -> String {
        let credentials = try await source.credentials()
        let date = now()
        let (endpoint, path) = place(of: key, isPublic: true)
        // A week is the longest that S3 takes.
        let seconds = min(604_800, max(1, Int(exactly: (expiry.timeIntervalSince(date)).rounded(.up)) ?? 1))
        let query = SignatureV4(credentials: credentials, region: region).presignedQuery(
            method, host: endpoint.authority, path: path, seconds: seconds, date: date)
        return "\(endpoint)\(path)?\(query)"
    }

    /// The error for a refusal.
    func error(_ error: any Error, _ purpose: String) -> any Error {
        guard let refusal = error as? S3Refusal else { return error }
        let said = [refusal.code, refusal.message].filter { !$0.isEmpty }.joined(separator: ": ").printable(max: 300)
        let place = "the S3 store \(address)"
        switch (refusal.status, refusal.code) {
        case (_, "NoSuchBucket"):
            return CohortError(
                .unavailable, "\(purpose): \(place) has no bucket '\(address.bucket)': make it, or add create=yes to the URL")
        case (_, "InvalidAccessKeyId"), (_, "SignatureDoesNotMatch"), (_, "ExpiredToken"), (_, "InvalidToken"):
            return CohortError(
                .unavailable,
                "\(purpose): \(place) does not accept the credentials (\(said)): look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        case (_, "RequestTimeTooSkewed"):
            return CohortError(.unavailable, "\(purpose): \(place) has another time than this machine: set this machine's clock (\(said))")
        case (_, "PermanentRedirect"), (_, "AuthorizationHeaderMalformed"), (301, _), (307, _):
            return CohortError(.unavailable, "\(purpose): the bucket is not in region \(region): set region in the URL (\(said))")
        case (507, _), (_, "QuotaExceeded"), (_, "XMinioStorageFull"):
            return CohortError(.storageFull, "\(purpose): \(place) is full (\(said))")
        case (403, _), (401, _):
            return CohortError(
                .unavailable,
                "\(purpose): \(place) does not allow it (\(said.isEmpty ? "\(refusal.status)" : said)): the credentials need to read, write, list and delete"
            )
        default:
            return CohortError(.unavailable, "\(purpose): \(place) answered \(refusal.status) (\(said))")
        }
    }

    private func request(_ call: S3Call, payload: String) async throws -> HTTPClientRequest {
        let (endpoint, path) = place(of: call.key, isPublic: false)
        let signature = SignatureV4(credentials: try await source.credentials(), region: region)
        let headers = signature.headers(
            call.method, path: path, query: call.query,
            headers: call.headers + [("host", endpoint.authority), ("x-amz-content-sha256", payload)], payload: payload, date: now())
        let query = call.query.isEmpty ? "" : "?\(SignatureV4.encoded(call.query))"
        var request = HTTPClientRequest(url: "\(endpoint)\(path)\(query)")
        request.method = HTTPMethod(rawValue: call.method)
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if call.body.readableBytes > 0 { request.body = .bytes(call.body) }
        return request
    }

    private func place(of key: String?, isPublic: Bool) -> (endpoint: S3Address.Endpoint, path: String) {
        var endpoint = address.endpoint ?? S3Address.Endpoint(isTLS: true, authority: "s3.\(region).amazonaws.com")
        if isPublic, let other = address.publicEndpoint { endpoint = other }
        let name = key.map { "\(address.prefix)\($0)".percentEncoded(keepsSlashes: true) } ?? ""
        guard !address.isPathStyle else { return (endpoint, "/\(address.bucket)\(key == nil ? "" : "/\(name)")") }
        endpoint.authority = "\(address.bucket).\(endpoint.authority)"
        return (endpoint, "/\(name)")
    }

    private func refusal(_ response: HTTPClientResponse) async throws -> S3Refusal {
        let body = try await response.body.collect(upTo: 1 << 20)
        let answer = S3Answer(Array(body.readableBytesView))
        return S3Refusal(status: Int(response.status.code), code: answer?["Code"] ?? "", message: answer?["Message"] ?? "")
    }

    private func isBroken(_ error: any Error) -> Bool {
        switch error {
        case is CancellationError: false
        case let error as HTTPClientError: ![.cancelled, .connectTimeout, .deadlineExceeded].contains(error)
        case let error as IOError: error.errnoCode != Errno.connectionRefused.rawValue
        case is ChannelError, is HTTPParserError: true
        default: false
        }
    }

    /// The error for a call without an answer.
    func unreachable(_ error: any Error) -> any Error {
        switch error {
        case is CancellationError: return CancellationError()
        case let error as CohortError: return error
        case let error as HTTPClientError where error == .cancelled: return CancellationError()
        case let error as HTTPClientError where error == .connectTimeout || error == .deadlineExceeded || error == .readTimeout:
            return CohortError(.unavailable, "the S3 store \(address) does not answer in time")
        case is NIOSSLError:
            return CohortError(
                .unavailable,
                "the S3 store \(address) is not who it should be, or does not speak TLS (\(error)): look at cacertfile in COHORT_OBJECTS_URL"
            )
        default: return CohortError(.unavailable, "the S3 store \(address) cannot be reached: \(error)")
        }
    }
}

extension S3Refusal {
    /// Trying again can help.
    fileprivate var isPassing: Bool {
        (status >= 500 && status != 501 && status != 507 && code != "QuotaExceeded") || status == 429
            || ["SlowDown", "RequestTimeout", "OperationAborted"].contains(code)
    }

    fileprivate var isAboutCredentials: Bool {
        ["InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "SignatureDoesNotMatch"].contains(code)
    }

    /// The object does not exist. A HEAD has no body with more than 404.
    var isMissing: Bool { code == "NoSuchKey" || (status == 404 && code.isEmpty) }
}
