import AsyncHTTPClient
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import Logging
import NIOSSL
import ServiceLifecycle
import UnixSignals

/// Settings → a peer → one service group.
struct PeerAssembly {
    private var configuration: PeerConfiguration
    private let engine: any TrainingEngine
    private let transport: PeerTransportChoice
    private let logger: Logger
    private let tracing: (any Service)?
    private let authorities: [NIOSSLCertificate]

    /// Flags are nil where they were not given.
    /// - Throws: ``CohortError`` `invalid` for an invalid or missing setting.
    init(
        settings: Settings, server: String?, fingerprint: String?, token: String?, name: String?, dataDirectory: String?, threads: Int?,
        engine: String?, device: String?, allowModels: String?,
        serve: String?, maxLoad: Int?, keepsData: Bool, transport: String?, isWatched: Bool, logger: Logger
    ) async throws {
        guard let server = settings.text("server", flag: server) else {
            throw CohortError(.invalid, "--server (or COHORT_SERVER) is missing: the server's URL, such as http://192.168.1.20:8080")
        }
        let typed = Terminal.asksForPasswords ? { Terminal.password(prompt: "Join token (from `cohort token`): ") } : { nil }
        guard let token = settings.text("token", flag: token) ?? typed(), !token.isEmpty else {
            throw CohortError(
                .invalid, "the join token is missing, which `cohort token` makes: COHORT_TOKEN, COHORT_TOKEN_FILE or --token gives it")
        }
        let engines = try Engines(settings: settings, engine: engine, device: device, allowModels: allowModels)
        let serve = try settings.choice("serve", flag: serve, standard: Pool.mine)
        let kind = BrokerAddress.Kind(rawValue: settings.text("transport", flag: transport, default: "http"))
        guard [.http, .amqp].contains(kind) else {
            throw CohortError(.invalid, "COHORT_TRANSPORT is '\(kind.rawValue.printable(max: 40))'; it must be http or amqp")
        }
        self.transport = PeerTransportChoice(caFile: settings.text("broker_ca_file"))
        authorities = try settings.authorities
        configuration = PeerConfiguration(
            server: try await KnownServers.server(
                server, fingerprint: settings.text("fingerprint", flag: fingerprint), authorities: authorities,
                waiting: { logger.warning("waiting for the server: \($0.message)") }), token: token,
            name: settings.text("name", flag: name),
            dataDirectory: settings.text("data_dir", flag: dataDirectory, default: "\(StandardFolder.data())/peer"),
            threads: try settings.whole("threads", flag: threads, in: 0...1_024, default: 0).nonZero,
            cacheLimitBytes: try settings.bytes("cache_limit", default: 10 << 30),
            serve: serve, maxLoad: try settings.whole("max_load", flag: maxLoad, in: 1...100, default: 100), transport: kind,
            version: CohortVersion.current,
            checkPoint: try CheckPointSocket.hook(settings))
        configuration.allowsModules = engines.allowsModules
        configuration.keepsData = try keepsData || settings.yesOrNo("keep_data", default: false)
        let threads = configuration.threads
        // Now, so that a missing engine is reported before anything begins.
        let made = try engines.make(threads: threads)
        for note in made.notes { logger.warning("\(note)") }
        self.engine = made.engine
        self.logger = logger
        tracing = try settings.makeTracing(service: "cohort-peer", instance: configuration.name, logger: logger)
        if isWatched {
            let display = PeerDisplay(server: configuration.server.text, width: { Terminal.width }, write: { Terminal.printStatus($0) })
            configuration.report = { display.show($0) }
        }
    }

    /// Runs until SIGTERM or SIGINT.
    func run() async throws {
        let http = HTTPClient.cohort(authorities: authorities)
        do {
            let engine = engine
            let peer = try Peer(
                configuration: configuration, http: http, transport: transport.make, logger: logger, engine: { engine })
            // The peer ends by itself only for good: its token was refused.
            try await ServiceGroup(
                configuration: .init(
                    services: (tracing.map { [.init(service: $0)] } ?? []) + [
                        .init(service: peer, successTerminationBehavior: .gracefullyShutdownGroup)
                    ],
                    gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
            ).run()
            try await http.shutdown()
        } catch {
            try? await http.shutdown()  // The first error is the one to tell.
            throw error
        }
    }
}

extension Int {
    fileprivate var nonZero: Int? { self == 0 ? nil : self }
}
