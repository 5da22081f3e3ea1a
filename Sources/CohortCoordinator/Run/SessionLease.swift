import CohortCore
import CohortSession
import FoundationEssentials

/// This coordinator's hold on a session: only its holder changes the session.
struct SessionLease: Sendable {
    let sessionId: String
    let owner: String
    /// The duration of the lease.
    let seconds: Double
    let documents: any Documents
    let time: any TimeSource

    /// Another coordinator has the lease.
    struct Lost: Error {}

    private var expiry: Date { time.date.addingTimeInterval(seconds) }

    /// Takes or renews the lease.
    /// - Parameter generation: the generation that is held already; nil: the lease is taken.
    /// - Returns: the session as stored; nil when another has the lease.
    func session(renewing generation: Int?) async throws -> Session? {
        guard let generation else {
            return try await documents.takeLease(sessionId: sessionId, owner: owner, now: time.date, expiresAt: expiry)
        }
        guard try await renew(generation: generation) != nil else { return nil }
        return try await documents.session(id: sessionId)
    }

    /// - Returns: nil when another has the lease.
    func renew(generation: Int) async throws -> HeldLease? {
        try await documents.renewLease(sessionId: sessionId, owner: owner, generation: generation, expiresAt: expiry)
    }

    /// Renews the lease every `interval` seconds, until the session is to be cancelled.
    /// - Throws: ``Lost`` when another has the lease.
    func keep(generation: Int, every interval: Double) async throws {
        while true {
            try await time.sleep(seconds: interval)
            guard let held = try await renew(generation: generation) else { throw Lost() }
            if held.cancelRequested { return }
        }
    }
}
