import ArgumentParser
import CohortAPI
import CohortCore
import CohortServer
import NIOCore

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a server.",
        discussion: """
            API, coordinator, and the embedded database, broker and object store, in one process.

            cohort serve                                  for this machine alone, at http://127.0.0.1:8080
            cohort serve --host 0.0.0.0 --tls auto        for others too, with a certificate of its own

            Settings without a flag, such as COHORT_BROKER_URL or COHORT_UPLOAD_LIMIT, are in docs/settings.md.
            """)

    @OptionGroup var common: CommonOptions

    @Option(help: "Address to listen on; 0.0.0.0 for all (COHORT_HOST).")
    var host: String?

    @Option(help: "Port to listen on; 0 for a free one, printed in the ready line (COHORT_PORT).")
    var port: Int?

    @Option(name: .customLong("data-dir"), help: "Where everything is kept (COHORT_DATA_DIR).")
    var dataDir: String?

    @Option(help: "auto: TLS with a self-signed certificate, made once; off (COHORT_TLS).")
    var tls: String?

    @Option(name: .customLong("tls-certificate"), help: "PEM file of a certificate: the server speaks TLS (COHORT_TLS_CERTIFICATE).")
    var tlsCertificate: String?

    @Option(name: .customLong("tls-key"), help: "PEM file of the certificate's key (COHORT_TLS_KEY).")
    var tlsKey: String?

    @Flag(name: .customLong("behind-proxy"), help: "A proxy before it speaks TLS (COHORT_BEHIND_PROXY).")
    var behindProxy = false

    @Flag(name: .customLong("insecure-http"), help: "Serve others without TLS, on a network that you trust (COHORT_INSECURE_HTTP).")
    var insecureHTTP = false

    func run() async throws {
        let settings = try await common.settings()
        let logger = try common.logger(settings, label: "cohort.serve")
        let assembly = try await ServerAssembly(
            settings: settings, host: host, port: port, dataDirectory: dataDir, tls: (tls, tlsCertificate, tlsKey),
            behindProxy: behindProxy, insecureHTTP: insecureHTTP, logger: logger)
        let scheme = assembly.isTLS ? "https" : "http"
        try await assembly.run { host, port in
            Terminal.printLine("listening on \(scheme)://\(Self.part(host)):\(port)")
            if let pins = assembly.join.pins {
                Terminal.printLine("certificate fingerprint \(pins.certificate)\npublic key sha256//\(pins.publicKey)")
            }
            if let code = assembly.ownInvitation { Terminal.printLine("invitation code \(code)") }
            let others = ServerAssembly.isLoopback(host) ? [] : Self.addresses(of: host)
            if Terminal.isInteractive { Terminal.printLine(Self.next(scheme, port: port, others: others, assembly)) }
            if !others.isEmpty, !assembly.join.isBehindProxy, scheme == "http" {
                Terminal.printError("passwords and data cross the network unencrypted", prefix: "warning: ")
            }
        }
    }

    private static func part(_ host: String) -> String { host.contains(":") ? "[\(host)]" : host }

    /// Returns the addresses by which other machines reach it.
    private static func addresses(of host: String) -> [String] {
        guard host == "0.0.0.0" || host == "::" else { return [host] }
        let all = (try? System.enumerateDevices())?.compactMap { $0.address?.ipAddress } ?? []
        // Addresses of one link alone are not to be typed anywhere.
        return all.filter { !ServerAssembly.isLoopback($0) && !$0.lowercased().hasPrefix("fe80:") && (host == "::" || !$0.contains(":")) }
    }

    private static func next(_ scheme: String, port: Int, others: [String], _ assembly: ServerAssembly) -> String {
        let join = assembly.join
        let own = "\(scheme)://127.0.0.1:\(port)\(assembly.basePath)"
        let theirs = others.first.map { "\(scheme)://\(part($0)):\(port)\(assembly.basePath)" } ?? own
        let invitation = if case .invited = assembly.signUp { " --invitation \(assembly.ownInvitation ?? "CODE")" } else { "" }
        let fingerprint = join.pins.map { " --fingerprint \($0.certificate)" } ?? ""
        let pinned = join.pins.map { " --insecure --pinnedpubkey 'sha256//\($0.publicKey)'" } ?? ""
        let installing = join.archive == nil ? "" : "\nwithout Cohort on it:  curl -fsS\(pinned) \(theirs)/join | sh -s -- TOKEN"
        return """

            In a browser:      \(own)
            An account:        cohort signup --server \(own) --email you@example.org\(invitation)
            A join token:      cohort token
            Join a machine:    cohort peer --server \(theirs)\(fingerprint) --token TOKEN\(others.isEmpty ? "   (this machine alone: --host 0.0.0.0 lets others in)" : "")\(installing)
            Train:             cohort train data.csv --peers all
            Ctrl-C stops it; what it keeps is there at the next start.
            """
    }
}
