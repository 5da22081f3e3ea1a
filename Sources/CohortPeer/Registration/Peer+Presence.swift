import CohortAPI
import CohortClient
import CohortCore
import CohortSystem
import CohortWire
import Logging

/// Being there: registered, beating, listening, answering.
extension Peer {
    func stayRegistered(with client: CohortClient, folder: PeerFolder, record: PeerRecord, trainer: Trainer) async throws {
        var record = record
        let capabilities = try await measured(&record, folder: folder, trainer: trainer)
        self.capabilities = capabilities
        var backoff = Backoff()
        while true {
            let registered = try await register(client, record: &record, capabilities: capabilities)
            try folder.save(record)
            self.registered = registered
            // From here on it says goodbye when it ends.
            configuration.report(.joined(name: registered.name ?? configuration.name))
            logger.notice(
                "registered as \(registered.name ?? configuration.name) at \(client.server); waiting for work, Ctrl-C leaves",
                metadata: ["peer": "\(registered.peerId)"])
            let since = ContinuousClock.now
            do {
                try await attend(client.authenticated(by: registered.credential), registered)
                return
            } catch let lost as RegistrationLost {
                logger.notice("registering again: \(lost.reason)")
            }
            // Two processes with one identity take it from each other: not at full speed.
            if ContinuousClock.now - since > .seconds(30) { backoff.reset() }
            try await Task.sleep(for: backoff.next())
        }
    }

    private func measured(_ record: inout PeerRecord, folder: PeerFolder, trainer: Trainer) async throws -> PeerCapabilities {
        let identity = try await trainer.engineIdentity()
        let known = record.measurement.flatMap {
            $0.engine == identity.name && $0.device == identity.device && $0.threads == configuration.threads ? $0 : nil
        }
        if known == nil {
            let speed = try await trainer.measure()
            record.measurement = PeerRecord.Measurement(
                samplesPerSecond: speed, engine: identity.name, device: identity.device, threads: configuration.threads)
            try folder.save(record)
            logger.info(
                "this machine trains \(Int(min(speed, 1e15))) samples/s on the fixed small net (\(identity.name), \(identity.device))")
        }
        return PeerCapabilities(
            cores: Machine.cores, memoryBytes: Machine.memoryBytes, engine: identity.name, device: identity.device,
            samplesPerSecond: record.measurement?.samplesPerSecond ?? 1, platform: Machine.platform, version: configuration.version,
            modules: identity.runsModules ? configuration.allowsModules : nil)
    }

    /// Tries for as long as the server is away.
    private func register(
        _ client: CohortClient, record: inout PeerRecord, capabilities: PeerCapabilities
    ) async throws -> API.Registered {
        var backoff = Backoff()
        var isWaiting = false
        while true {
            do {
                let registered = try await client.register(
                    API.Registration(
                        id: record.peerId, name: configuration.name, capabilities: capabilities, serve: configuration.serve,
                        credential: record.credential, transport: configuration.transport))
                record.peerId = registered.peerId
                record.credential = registered.credential
                return registered
            } catch let error as CohortError {
                switch error.code {
                case .unauthenticated, .forbidden:
                    throw CohortError(
                        error.code,
                        "\(client.server) refuses this peer's token (\(error.message)): get a new one with `cohort token`, where its owner is signed in"
                    )
                case .conflict where record.peerId != nil:
                    logger.warning("joining as a new peer, because the old identity is not this token's: \(error)")
                    record.peerId = nil
                    record.credential = nil
                case .unavailable, .notEnoughPeers, .internal, .storageFull:
                    if !isWaiting { configuration.report(.waitingForServer(error.message)) }
                    if !isWaiting { logger.warning("waiting for the server: \(error)") }
                    isWaiting = true
                    try await Task.sleep(for: backoff.next())
                default:
                    throw error
                }
            }
        }
    }

    /// Beats, listens and answers under one registration.
    /// - Throws: ``RegistrationLost`` when the server has given it up.
    private func attend(_ client: CohortClient, _ registered: API.Registered) async throws {
        let transport = try makeTransport(client, registered, logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                do {
                    try await transport.run()
                } catch let error as CohortError where error.code == .conflict || error.code == .notFound {
                    throw RegistrationLost(reason: error.message)
                }
            }
            group.addTask { try await self.listen(transport, peerId: registered.peerId) }
            group.addTask { try await self.outbox.deliver(through: transport) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}

/// The server has given this registration up: register again.
struct RegistrationLost: Error {
    let reason: String
}
