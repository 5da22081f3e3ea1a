import CohortCore
import HummingbirdTLS
import Logging
import NIOCertificateReloading
import NIOSSL

/// The server's certificate and key, read again while it runs: one that is renewed is used for the connections after that.
struct ServerCertificate {
    private let reloader: TimedCertificateReloader
    let configuration: TLSConfiguration

    /// - Throws: ``CohortError`` `invalid` when a file cannot be read, holds no such thing, or the two do not belong together.
    init(_ files: (certificate: String, key: String), logger: Logger) throws {
        func wrong(setting: String, path: String, what: String, error: any Error) -> CohortError {
            CohortError(.invalid, "\(setting) is '\(path.printable(max: 200))': \(what) (\(error))")
        }
        do {
            _ = try NIOSSLCertificate.fromPEMFile(files.certificate)
        } catch {
            throw wrong(
                setting: "COHORT_TLS_CERTIFICATE", path: files.certificate, what: "no PEM file of certificates that can be read",
                error: error)
        }
        do {
            _ = try NIOSSLPrivateKey(file: files.key, format: .pem)
        } catch {
            throw wrong(setting: "COHORT_TLS_KEY", path: files.key, what: "no PEM file of a private key that can be read", error: error)
        }
        do {
            reloader = try TimedCertificateReloader.makeReloaderValidatingSources(
                refreshInterval: .seconds(10), certificateSource: .init(location: .file(path: files.certificate), format: .pem),
                privateKeySource: .init(location: .file(path: files.key), format: .pem), logger: logger)
            configuration = try TLSConfiguration.makeServerConfiguration(certificateReloader: reloader)
        } catch {
            throw CohortError(
                .invalid,
                "COHORT_TLS_CERTIFICATE and COHORT_TLS_KEY (\(files.certificate), \(files.key)) do not belong together, or cannot be used: \(error)"
            )
        }
    }

    /// Until it is cancelled, or the server stops.
    func run() async throws { try await reloader.run() }
}
