public import CohortAPI
import CohortCore
public import Logging

/// Tells the server every few seconds that a peer is there, whatever carries its messages.
public struct PresenceBeats: Sendable {
    private let client: CohortClient
    private let registered: API.Registered
    private let logger: Logger

    /// - Parameter client: with the peer's credential.
    public init(client: CohortClient, registered: API.Registered, logger: Logger) {
        self.client = client
        self.registered = registered
        self.logger = logger
    }

    /// Until the task is cancelled. An absence of the server is waited out.
    /// - Parameter accepted: the newest command of the HTTP stream that the peer has acknowledged.
    /// - Throws: ``CohortError`` `conflict` or `notFound` when the registration is lost; `unauthenticated` or `forbidden`.
    public func run(accepted: @Sendable () -> Int? = { nil }) async throws {
        let interval = max(0.01, registered.heartbeatInterval)
        var isAway = false
        while true {
            try await Task.sleep(for: .seconds(interval * Double.random(in: 0.8...1.2)))
            do {
                try await client.beat(
                    peerId: registered.peerId, registration: registered.registration, through: accepted(),
                    timeout: .seconds(max(1, interval * 2)))
                if isAway { logger.notice("\(client.server) is back") }
                isAway = false
            } catch let error as CohortError {
                switch error.code {
                case .conflict, .notFound, .unauthenticated, .forbidden: throw error
                default:
                    if !isAway { logger.warning("the server does not take this peer's beats: \(error)") }
                    isAway = true
                }
            }
        }
    }
}
