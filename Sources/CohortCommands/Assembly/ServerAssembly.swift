import CohortCore
import CohortServer
import CohortSession
import CohortStrategies
import CohortSystem
import CohortWire
import Logging
import ServiceLifecycle

/// Settings → parts → one service group.
struct ServerAssembly {
    private let configuration: ServerConfiguration
    private let parts: CommonParts
    private let coordinates: Bool
    var join: JoinOffer { configuration.join }
    var isTLS: Bool { configuration.tls != nil }
    var basePath: String { configuration.basePath }
    var signUp: SignUpRule { configuration.signUp }
    /// The invitation code that this server has made for itself.
    let ownInvitation: String?

    /// Flags are nil where they were not given. The data folder is this process's from here on.
    /// - Throws: ``CohortError`` for an invalid setting, or a folder that another server has.
    init(
        settings: Settings, host: String?, port: Int?, dataDirectory: String?,
        tls: (mode: String?, certificate: String?, key: String?) = (nil, nil, nil), behindProxy: Bool = false,
        insecureHTTP: Bool = false, logger: Logger
    ) async throws {
        let path = settings.text("data_dir", flag: dataDirectory, default: "\(StandardFolder.data())/server")
        coordinates = try settings.yesOrNo("coordinate", default: true)
        var configuration = ServerConfiguration(
            host: settings.text("host", flag: host, default: "127.0.0.1"),
            port: try settings.whole("port", flag: port, in: 0...65_535, default: 8080), dataDirectory: path,
            uploadLimit: try settings.bytes("upload_limit", default: 1 << 30),
            tokenLifetime: try settings.whole("token_lifetime", in: 60...31_536_000, default: 604_800),
            heartbeatInterval: try settings.seconds("heartbeat_interval", in: 0.05...3_600, default: 5),
            suspectAfter: try settings.seconds("suspect_after", in: 0.1...86_400, default: 15), deadAfter: try settings.deadAfter,
            strategies: CohortCommand.strategies.all, jwtSecret: settings.text("jwt_secret"))
        let (certificate, key) = (settings.text("tls_certificate", flag: tls.certificate), settings.text("tls_key", flag: tls.key))
        let mode = settings.text("tls", flag: tls.mode, default: "off")
        guard ["off", "auto"].contains(mode) else {
            throw CohortError(
                .invalid, "COHORT_TLS is '\(mode.printable(max: 40))'; it must be auto (a self-signed certificate) or off")
        }
        guard mode == "off" || certificate == nil && key == nil else {
            throw CohortError(.invalid, "COHORT_TLS is auto, which does not go with COHORT_TLS_CERTIFICATE and COHORT_TLS_KEY")
        }
        if let certificate, let key {
            configuration.tls = (certificate, key)
        } else if certificate != nil || key != nil {
            throw CohortError(
                .invalid, "COHORT_TLS_CERTIFICATE and COHORT_TLS_KEY go together: \(key == nil ? "the second" : "the first") is missing")
        }
        let isBehindProxy = try behindProxy || settings.yesOrNo("behind_proxy", default: false)
        configuration.join.isBehindProxy = isBehindProxy
        let isForAll = !Self.isLoopback(configuration.host)
        guard
            try !isForAll || mode == "auto" || certificate != nil || isBehindProxy || insecureHTTP
                || settings.yesOrNo("insecure_http", default: false)
        else {
            throw CohortError(
                .invalid,
                "on \(configuration.host) passwords and data would cross the network unencrypted: say --tls auto, or set --tls-certificate and --tls-key, or put a proxy with TLS before it and say --behind-proxy; on a network that you trust, --insecure-http"
            )
        }
        // Browsers do not trust the self-signed certificate.
        configuration.sendsHSTS = certificate != nil
        configuration.basePath = try settings.basePath
        configuration.machinesOfToken = try settings.whole("machines_per_token", in: 1...1_000_000, default: 1_000)
        configuration.poolShare = try settings.poolShare
        configuration.join.archive = try Distribution.archive(given: settings.text("archive"))
        configuration.corsOrigin = settings.text("cors_origin")
        configuration.trustedProxies = try (settings.text("trusted_proxies") ?? "").split(separator: ",").map { text in
            do { return try AddressNetwork(text.filter { $0 != " " }) } catch let error as CohortError {
                throw CohortError(.invalid, "COHORT_TRUSTED_PROXIES: \(error.message), separated by commas")
            }
        }
        if let origin = configuration.corsOrigin, origin != "*", !origin.hasPrefix("http://"), !origin.hasPrefix("https://") {
            throw CohortError(
                .invalid,
                "COHORT_CORS_ORIGIN is '\(origin.printable(max: 100))'; it must be an origin such as https://lab.example.org, or *")
        }
        guard configuration.heartbeatInterval < configuration.deadAfter else {
            throw CohortError(
                .invalid,
                "COHORT_HEARTBEAT_INTERVAL is \(configuration.heartbeatInterval), COHORT_DEAD_AFTER \(configuration.deadAfter): a peer would be marked OFFLINE between two beats"
            )
        }
        // Once the folder is this process's.
        parts = try await CommonParts(settings: settings, path: path, of: "server", isApart: !coordinates, logger: logger)
        configuration.isShared = parts.isShared
        if mode == "auto" {
            let own = try OwnCertificate(in: path)
            configuration.tls = (own.certificate, own.key)
            configuration.join.pins = (own.fingerprint, own.publicKeyPin)
        }
        (configuration.signUp, ownInvitation) = try settings.signUpRule(isForAll: isForAll || isBehindProxy, dataFolder: path)
        self.configuration = configuration
        if parts.isShared, ownInvitation != nil {
            logger.notice("COHORT_INVITATION_CODES is not set: every server then has a separate code for new accounts")
        }
        if parts.isShared, configuration.jwtSecret == nil {
            logger.notice(
                "COHORT_JWT_SECRET is not set: other servers and coordinators beside this one would not be believed, nor believe it")
        }
    }

    static func isLoopback(_ host: String) -> Bool { host.hasPrefix("127.") || host == "::1" || host == "localhost" }

    /// Serves until SIGTERM or SIGINT. Started first: the coordinator; stopped first: the server.
    func run(onListening: @escaping @Sendable (_ host: String, _ port: Int) -> Void) async throws {
        raiseDescriptorLimit()
        let signals = parts.makeSignals()
        let feed: any SessionFeed = signals ?? LocalSessionFeed()
        var services: [any Service] = []
        if let signals { services.append(signals) }
        var runner: any SessionRunner
        if coordinates {
            let coordinator = try parts.makeCoordinator(feed: feed)
            signals?.runs(coordinator)
            services.append(coordinator)
            runner = signals ?? coordinator
        } else if let signals {
            runner = signals
        } else {
            throw CohortError(
                .invalid, "COHORT_COORDINATE is no, but there is no way to tell a coordinator: COHORT_BROKER_URL must be shared")
        }
        services.append(
            CohortServer(
                configuration: configuration,
                parts: ServerParts(
                    documents: parts.documents, objects: parts.objects, servedObjects: parts.servedObjects, transport: parts.broker,
                    gateway: parts.broker, feed: feed,
                    runner: runner, logger: parts.logger),
                onListening: onListening))
        try await parts.run(services)
    }
}
