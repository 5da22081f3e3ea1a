import CohortCore
import CohortSession
import CohortTracing
import CohortWire
import FoundationEssentials
import Tracing

/// Spans of rounds and of the session.
extension SessionRun {
    func traceRound(_ session: Session, aggregation: Date, measurement: Date) {
        guard let trace = SessionTrace(sessionId: session.id, traceparent: session.traceparent) else { return }
        let end = time.date
        let context = trace.parent(.round(session.round, generation: session.generation)).context
        SessionTrace.record("aggregate", in: context, from: aggregation, to: measurement, [:])
        SessionTrace.record("measure", in: context, from: measurement, to: end, [:])
        trace.record(
            "round", as: .round(session.round, generation: session.generation), from: session.roundStartedAt ?? aggregation, to: end,
            [
                "cohort.session": .string(session.id), "cohort.round": .int64(Int64(session.round)),
                "cohort.peers": .int64(Int64(session.peers.count { $0.answer?.round == session.round })),
            ])
    }

    func traceEnd(_ session: Session) {
        SessionTrace(sessionId: session.id, traceparent: session.traceparent)?.record(
            "session", as: .session, from: session.createdAt, to: session.endedAt ?? time.date,
            [
                "cohort.session": .string(session.id), "cohort.status": .string(session.status.rawValue),
                "cohort.strategy": .string(session.settings.strategy), "cohort.rounds": .int64(Int64(session.settings.rounds)),
                "cohort.rows": .int64(Int64(session.dataset?.trainingRows ?? 0)),
            ], error: session.status == .failed ? session.error ?? "failed" : nil)
    }
}
