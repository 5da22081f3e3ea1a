import CohortCore
import CohortSession
import CohortStrategies
import CohortTraining
import CohortWire
import FoundationEssentials

/// Commands to peers.
extension SessionRun {
    /// Sends commands. A peer that a command cannot reach is lost; the session goes on.
    func send(_ commands: [SessionActions.Command], of machine: inout SessionMachine, into actions: inout SessionActions) async throws {
        lose(try await deliver(commands, of: machine), in: &machine, into: &actions)
    }

    /// A peer that a command cannot reach, and why.
    typealias Unreached = (peerId: String, reason: String)

    func lose(_ unreached: [Unreached], in machine: inout SessionMachine, into actions: inout SessionActions) {
        guard !unreached.isEmpty else { return }
        for (peerId, reason) in unreached {
            actions += machine.apply(.peerLost(peerId: peerId, reason: "cannot be reached: \(reason)"), now: clock.now())
        }
        machine.advance(&actions, now: clock.now())
    }

    func deliver(_ commands: [SessionActions.Command], of machine: SessionMachine) async throws -> [Unreached] {
        guard !commands.isEmpty else { return [] }
        var builder: TrainCommandBuilder?
        let session = machine.session
        var unreached: [Unreached] = []
        for command in commands {
            let message: Command
            switch command {
            case .enable(_, let prepares):
                if prepares, builder == nil { builder = try await commandBuilder(session) }
                message = .enable(
                    EnableCommand(
                        queue: session.eventQueue.rawValue, sessionId: id, generation: session.generation,
                        prepare: prepares ? builder?.rowsAhead(of: machine.place(of: command.peerId)) : nil))
            case .train(let peerId):
                guard let peer = machine.place(of: peerId), peer.state == .training else { continue }
                if builder == nil { builder = try await commandBuilder(session) }
                guard let builder else { continue }
                var train = try await builder.command(for: peer, timeLimit: machine.timeLimit(at: clock.now()))
                train.progressWithin = machine.progressWithin
                try await table?.add(to: &train, for: peer)
                message = .train(train)
            case .refused(_, let round, let attempt, let reason):
                message = .refused(
                    RefusedCommand(sessionId: id, generation: session.generation, round: round, attempt: attempt, reason: reason))
            case .stop(_, let reason):
                message = .stop(StopCommand(sessionId: id, reason: reason))
            }
            do {
                try await coordinator.transport.send(message, to: command.peerId)
            } catch let error as CohortError where error.code == .notFound || error.code == .conflict {
                unreached.append((command.peerId, error.message))
            }
        }
        return unreached
    }

    /// The table is read once a run.
    private func commandBuilder(_ session: Session) async throws -> TrainCommandBuilder {
        guard let dataset = session.dataset, let model = session.model else {
            throw CohortError(.internal, "session \(session.id) trains without a data set")
        }
        if table == nil { table = TableKnowledge(try await StoredTable(sessionId: session.id, in: coordinator.objects)) }
        guard let table else { throw CohortError(.internal, "session \(session.id) trains without a table") }
        var weights: Data?
        if let reference = session.weights, let layout = session.layout { weights = try await aggregator.smallFile(of: reference, layout) }
        return try await TrainCommandBuilder(
            session: session, recipe: try configuration.strategies.named(session.settings.strategy).recipe(session.settings),
            dataset: dataset, model: model, table: table.link, weights: weights, objects: coordinator.objects,
            expiry: time.date.addingTimeInterval(configuration.linkSeconds))
    }
}
