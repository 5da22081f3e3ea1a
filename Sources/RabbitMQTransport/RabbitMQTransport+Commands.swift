import CohortCore
public import CohortWire
import Synchronization

/// Commands of a coordinator to peers.
extension RabbitMQTransport {
    public func send(_ command: Command, to peerId: String) async throws {
        let queue = QueueName.command(peerId: peerId)
        let message = WireMessage(key: queue.rawValue, body: try CohortJSON.encode(command))
        if state.withLock({ $0.known.contains(peerId) }) {
            do {
                return try await connection.publish([message])
            } catch let error as CohortError where error.code == .notFound {
                // It has expired, or another process has removed it.
            }
        }
        try await declare(queue, commandQueue)
        _ = state.withLock { $0.known.insert(peerId) }
        try await connection.publish([message])
    }

    public func forget(peer peerId: String) async throws {
        _ = state.withLock { $0.known.remove(peerId) }
        releaseCommands(of: peerId)
        try await configuration.access?.revoke(peerId: peerId)
        try await delete(.command(peerId: peerId))
    }
}
