import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Logging

/// The results of rounds: aggregation, the check for harm, measurement, the model file.
extension SessionRun {
    func make(_ task: SessionActions.ObjectTask, _ machine: inout SessionMachine) async throws -> SessionActions {
        switch task {
        case .aggregate(let outcome):
            do {
                let session = machine.session
                let began = time.date
                let outer = try configuration.strategies.named(session.settings.strategy).outerOptimizer(session.settings)
                var combined = try await aggregator.combine(outcome, of: session, outer: outer)
                if let harm = try await harm(in: outcome, combined: combined, outer: outer, of: machine) {
                    return machine.handle(.harmful(peerId: harm.peerId, reason: harm.reason), now: clock.now())
                }
                let state = try await aggregator.step(&combined, by: outer)
                let (parameters, contributions) = (combined.parameters, combined.contributions)
                let aggregated = time.date
                // While they are stored.
                let (evaluator, hasOwnModels) = (evaluator, machine.hasOwnModels)
                async let measured = evaluator.measure(parameters, of: session, isFinal: hasOwnModels)
                let weights = try await aggregator.store(&combined)
                unstored.append(weights)
                // Late uploads are refused, unless they count in a later round.
                if !machine.isBuffered {
                    try await coordinator.objects.closeLinks(
                        prefix: "\(session.updatePrefix)g\(session.generation)-r\(session.round)-")
                }
                var counts: Counts?
                do { counts = try await measured } catch { notMeasured(error) }
                traceRound(session, aggregation: began, measurement: aggregated)
                return machine.handle(
                    .aggregated(
                        weights.reference, measured: counts, outer: state, contributions: contributions, of: outcome),
                    now: clock.now())
            } catch let diverged as Aggregator.Diverged {
                return machine.handle(.failed(diverged.message), now: clock.now())
            } catch let changed as Aggregator.Changed {
                return machine.handle(.aggregationFailed(peerId: changed.peerId, reason: changed.reason), now: clock.now())
            }
        case .conclude(let weights, let metrics):
            let evaluation = await evaluation(of: weights, machine.session)
            let object = try await aggregator.writeModelFile(
                machine.session, weights: weights, metrics: metrics, evaluation: evaluation)
            let version = try await documents.takeModelVersion(of: machine.session)
            return machine.handle(.concluded(model: object, metrics: metrics, evaluation: evaluation, version: version), now: clock.now())
        }
    }

    /// Finds the conspicuous update without which the model is clearly better on held-out rows, if there is one.
    private func harm(
        in outcome: RoundOutcome, combined: Aggregator.Combined, outer: OuterOptimizer?, of machine: SessionMachine
    ) async throws -> (peerId: String, reason: String)? {
        let suspects = machine.suspects(outcome, combined.contributions)
        let settings = machine.session.settings
        // A harmful stream shows in the first steps of the next round.
        let isMoved = suspects.contains(where: \.hasLongStream)
        func probe(_ combined: Aggregator.Combined) -> [Float] {
            isMoved ? combined.parametersMovedByStreams(settings) : combined.parameters
        }
        guard !suspects.isEmpty, let with = await measure(probe(combined), of: machine.session, isFinal: false)?.loss else {
            return nil
        }
        var worst: (peerId: String, reason: String)?
        var least = machine.harmlessLoss(with)
        for suspect in suspects {
            let others = try await aggregator.combine(outcome.without([suspect.peerId]), of: machine.session, outer: outer)
            guard let without = await measure(probe(others), of: machine.session, isFinal: false)?.loss, without < least else {
                continue
            }
            least = without
            func rounded(_ loss: Double) -> Double { (loss * 1_000).rounded() / 1_000 }
            worst = (
                suspect.peerId,
                "\(suspect.hasLongStream ? "it" : "its change") \(suspect.reason), and the held-out loss is \(rounded(with)) with it, \(rounded(without)) without it"
            )
        }
        return worst
    }

    // MARK: Measuring

    /// Measures what a peer's answer reports: its own model (`independent`), or the final model on the peer's slice.
    func measured(_ event: DoneEvent, parameters: [Float]?, of place: SessionPeer, in machine: SessionMachine) async -> Counts? {
        let session = machine.session
        if machine.hasOwnModels, let parameters { return await measure(parameters, of: session, isFinal: true) }
        guard machine.isEvaluation, let slice = place.validationRows else { return nil }
        do {
            guard let weights = try await aggregator.parameters(of: session) else { return nil }
            return await measure(weights, of: session, isFinal: true, slice: slice)
        } catch {
            logger.warning("the weights could not be read to be measured by the server itself: \(error)")
            return nil
        }
    }

    /// Measures a model; nil after a failure, which is logged: the peers' measurement is used.
    private func measure(_ parameters: [Float], of session: Session, isFinal: Bool, slice: RowRange? = nil) async -> Counts? {
        do {
            return try await evaluator.measure(parameters, of: session, isFinal: isFinal, slice: slice)
        } catch {
            notMeasured(error)
            return nil
        }
    }

    private func notMeasured(_ error: any Error) { logger.warning("the model could not be measured by the server itself: \(error)") }

    /// Evaluates the final model in detail; nil after a failure, which is logged: the session has its metrics all the same.
    func evaluation(of weights: ObjectReference, _ session: Session) async -> Evaluation? {
        do {
            guard let parameters = try await aggregator.parameters(of: session, weights: weights) else { return nil }
            return try await evaluator.evaluate(parameters, of: session)
        } catch {
            logger.warning("the model could not be measured in detail: \(error)")
            return nil
        }
    }
}
