import CohortCore
import CohortWire
import Logging

/// Commands: one stream, one consumer.
extension Peer {
    func listen(_ transport: any PeerTransport, peerId: String) async throws {
        do {
            for try await received in try await transport.commands() {
                do {
                    let command = try CohortJSON.decode(Command.self, from: received.body)
                    accept(command, peerId: peerId)
                    try await accept(received)
                } catch let unknown as UnknownMessageType {
                    logger.warning("\(unknown); this version of Cohort passes it over")
                    try await accept(received)
                } catch let malformed as CohortError where malformed.code == .invalid {
                    logger.warning("a malformed command was ignored: \(malformed)")
                    try await accept(received)
                }
            }
        } catch let error as CohortError where error.code == .conflict || error.code == .notFound {
            throw RegistrationLost(reason: error.message)
        }
        try Task.checkCancellation()
        throw RegistrationLost(reason: "the command queue has ended")
    }

    /// A lost acknowledgement does no harm: the command is handled as a repeat, or acknowledged when the stream is opened again.
    private func accept(_ received: ReceivedCommand) async throws {
        do {
            try await received.accept()
        } catch let error as CohortError where error.code == .unavailable || error.code == .internal {
            logger.debug("an acknowledgement was lost: \(error)")
        }
    }

    private func accept(_ command: Command, peerId: String) {
        for action in ledger.receive(command) {
            switch action {
            case .stop(let key):
                logger.info("stopping \(key)")
                control?.stop()
                control = nil
            case .stopLoading(let session):
                logger.info("stopping to load the data set of session \(session)")
                control?.stop()
                control = nil
            case .answerEnabled(let command):
                logger.info("attached to session \(command.sessionId)", metadata: ["generation": "\(command.generation)"])
                outbox.add(
                    .enabled(
                        EnabledEvent(
                            sessionId: command.sessionId, peerId: peerId, generation: command.generation, capabilities: capabilities,
                            ready: command.prepare == nil ? nil : false)))
            case .start(let command):
                let control = RunControl()
                self.control = control
                assign.yield(.train(command, control))
            case .prepare(let command):
                let control = RunControl()
                self.control = control
                assign.yield(.prepare(command, control))
            case .repeatAnswer(let done):
                logger.info("round \(done.round) of session \(done.sessionId) is done already; saying so again")
                outbox.add(.done(done))
            case .leave(let session, let reason):
                configuration.report(.released(session: session))
                logger.info("left session \(session): \(reason)")
                outbox.drop(sessionId: session)
                cache.end(session: session)
                if ledger.running == nil, ledger.loading == nil { assign.yield(.release) }
            case .ignore(let reason):
                logger.info("ignored: \(reason)")
            }
        }
    }
}
