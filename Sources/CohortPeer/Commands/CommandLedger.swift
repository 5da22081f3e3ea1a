import CohortCore
import CohortWire

/// Decides what a command means for a peer that may have seen it before, or a newer one. Pure: commands in, actions out.
struct CommandLedger: Sendable {
    enum Action: Hashable, Sendable {
        /// Stop the running work; its result is not needed any more.
        case stop(WorkKey)
        /// Stop loading the data set of this session.
        case stopLoading(sessionId: String)
        case answerEnabled(EnableCommand)
        case start(TrainCommand)
        /// Load the data set that ENABLE names, and say READY.
        case prepare(EnableCommand)
        /// The work is done already: say so again.
        case repeatAnswer(DoneEvent)
        /// Forget what is kept of the session.
        case leave(sessionId: String, reason: StopCommand.Reason)
        /// Do nothing, for this reason.
        case ignore(String)
    }

    private struct Known: Sendable {
        var generation: Int
        var hasLeft = false
    }

    /// Answers and sessions kept, the oldest forgotten first.
    private static let kept = 16

    private var sessions: [String: Known] = [:]
    private var order: [String] = []
    private var answers: [(key: WorkKey, answer: DoneEvent)] = []
    private(set) var running: WorkKey?
    /// The session whose data set is being loaded ahead of its work.
    private(set) var loading: String?

    mutating func receive(_ command: Command) -> [Action] {
        switch command {
        case .enable(let command):
            if let older = olderThanKnown(command.sessionId, command.generation) { return [.ignore("ENABLE \(older)")] }
            remember(command.sessionId, command.generation)
            // A new coordinator does not want what the old one asked for, and a peer is in one session at a time.
            let isCurrent = running.map { $0.sessionId == command.sessionId && $0.generation == command.generation } ?? true
            // Told to load first, it is not wanted for the round that it may be working on.
            guard command.prepare != nil else {
                return (isCurrent ? [] : stopRunning()) + (loading == command.sessionId ? [] : stopLoading()) + [.answerEnabled(command)]
            }
            let stops = stopRunning() + stopLoading()
            loading = command.sessionId
            return stops + [.answerEnabled(command), .prepare(command)]

        case .train(let command):
            let key = command.work
            if let older = olderThanKnown(key.sessionId, key.generation) { return [.ignore("TRAIN for \(key) \(older)")] }
            if let known = sessions[key.sessionId], known.hasLeft, known.generation == key.generation {
                return [.ignore("TRAIN for \(key) comes after STOP")]
            }
            if key == running { return [.ignore("TRAIN for \(key) is being carried out already")] }
            if let answer = answers.first(where: { $0.key == key })?.answer { return [.repeatAnswer(answer)] }
            remember(key.sessionId, key.generation)
            // The work loads what it needs itself, from where the loading was broken off.
            let stops = stopRunning() + stopLoading()
            running = key
            return stops + [.start(command)]

        case .refused(let command):
            return [.ignore("the answer to round \(command.round) of session \(command.sessionId) was refused: \(command.reason)")]

        case .stop(let command):
            let stops =
                (running?.sessionId == command.sessionId ? stopRunning() : [])
                + (loading == command.sessionId ? stopLoading() : [])
            sessions[command.sessionId]?.hasLeft = true
            answers.removeAll { $0.key.sessionId == command.sessionId }
            return stops + [.leave(sessionId: command.sessionId, reason: command.reason)]
        }
    }

    /// The work ended, with an answer that is repeated if it is asked for again (an error is not kept: asked again, it is tried again).
    /// - Returns: false when it had been stopped: its result is not needed.
    mutating func finish(_ key: WorkKey, answer: DoneEvent?) -> Bool {
        guard key == running else { return false }
        running = nil
        if let answer {
            answers.append((key, answer))
            if answers.count > Self.kept { answers.removeFirst() }
        }
        return true
    }

    /// Loading the data set has ended.
    mutating func finishLoading(sessionId: String) {
        if loading == sessionId { loading = nil }
    }

    private mutating func stopLoading() -> [Action] {
        defer { loading = nil }
        return loading.map { [.stopLoading(sessionId: $0)] } ?? []
    }

    private mutating func stopRunning() -> [Action] {
        defer { running = nil }
        return running.map { [.stop($0)] } ?? []
    }

    private func olderThanKnown(_ session: String, _ generation: Int) -> String? {
        guard let known = sessions[session], generation < known.generation else { return nil }
        return "of generation \(generation) is older than generation \(known.generation)"
    }

    private mutating func remember(_ session: String, _ generation: Int) {
        if sessions[session] == nil {
            order.append(session)
            if order.count > Self.kept { sessions[order.removeFirst()] = nil }
        }
        sessions[session] = Known(generation: generation)
    }
}
