import CohortCore
public import CohortWire
import Logging
import Synchronization

/// Signals among the processes of a deployment.
extension RabbitMQTransport {
    /// A message on the exchange of signals.
    enum Broadcast: Codable {
        case signal(Signal)
        /// The peer receives its commands from the sender from now on.
        case streams(peerId: String)
    }

    public func send(_ signal: Signal) async { broadcast(.signal(signal)) }

    func broadcast(_ message: Broadcast) {
        do {
            let body = try CohortJSON.encode(message)
            let key = signatures.key(peerId: process, registration: Self.gateway)
            connection.broadcast(
                WireMessage(
                    exchange: Self.signals, key: "", body: body, isPersistent: false, isMandatory: false, sender: process,
                    registration: "\(Self.gateway)", signature: MessageSignatures.sign(body, key: key)))
        } catch {
            logger.warning("a signal to the other servers was not sent: \(error)")
        }
    }

    func receiveSignal(_ delivery: WireDelivery) {
        guard delivery.sender != process else { return }
        guard delivery.registration == "\(Self.gateway)", verifiedSender(delivery) != nil,
            let message = try? CohortJSON.decode(Broadcast.self, from: delivery.body)
        else {
            return logger.warning(
                "a signal from another server was ignored: no server of this deployment signed it. Do all servers have the same COHORT_JWT_SECRET?"
            )
        }
        switch message {
        case .signal(let signal):
            for listener in state.withLock({ $0.listeners }) { listener.yield(signal) }
        case .streams(let peerId):
            releaseCommands(of: peerId)
        }
    }

    public func signals() async -> AsyncStream<Signal> {
        let (stream, continuation) = AsyncStream<Signal>.makeStream(bufferingPolicy: .bufferingNewest(10_000))
        state.withLock { $0.listeners.append(continuation) }
        return stream
    }
}
