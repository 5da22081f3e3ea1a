import CohortClient
import CohortCore
import CohortSystem
import CohortTracing
import CohortTraining
import CohortWire
import FoundationEssentials
import Logging
import Tracing

/// Executes TRAIN on a separate thread: data set, weights, epochs, evaluation, upload. Keeps the last data set and model from
/// round to round.
actor Trainer {
    private let executor: ThreadExecutor
    private let limiter: LoadLimiter
    private let maxLoad: Int
    private let checkPoint: (@Sendable (CheckPoint) -> Void)?
    private let engine: LazyEngine
    private let loader: RowLoader
    private let models: ModelHolder
    private let updates: UpdateSender

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(
        executor: ThreadExecutor, makeEngine: @escaping @Sendable () throws -> any TrainingEngine, objects: ObjectTransfer,
        cache: RowCache, roundsFolder: String, maxLoad: Int, allowsModules: Pool, checkPoint: (@Sendable (CheckPoint) -> Void)?,
        report: @escaping @Sendable (PeerActivity) -> Void, logger: Logger
    ) {
        self.executor = executor
        self.maxLoad = maxLoad
        self.checkPoint = checkPoint
        limiter = LoadLimiter(percent: maxLoad)
        engine = LazyEngine(make: makeEngine, logger: logger)
        loader = RowLoader(engine: engine, objects: objects, cache: cache, limiter: limiter, report: report, logger: logger)
        models = ModelHolder(engine: engine, objects: objects, allowsModules: allowsModules, logger: logger)
        updates = UpdateSender(objects: objects, folder: roundsFolder, logger: logger)
    }

    func engineIdentity() throws -> (name: String, device: String, runsModules: Bool) {
        let engine = try engine.loaded()
        return (engine.name, engine.device, engine.runsModules)
    }

    /// Returns the samples a second on the fixed small net, as far as the load limit permits.
    func measure() throws -> Double { try engine.loaded().measureSamplesPerSecond(for: 0.2) * Double(maxLoad) / 100 }

    /// Releases the data set and the model.
    func release() {
        loader.release()
        models.release()
        updates.release()
        FreedMemory.giveBack()
    }

    /// Loads rows, so that the first work on them begins at once.
    func prepare(
        _ ahead: RowsAhead, from source: RowLoader.Source, control: RunControl, progress: ProgressReporter
    ) async throws {
        limiter.begin()
        _ = try await loader.dataset(ahead.table, data: nil, from: source, control: control, progress: progress) { _ in ahead.rows }
    }

    /// - Parameters:
    ///   - ownerId: the owner of this machine.
    ///   - credential: the peer's own, which opens its rows.
    ///   - report: called after each epoch, on the training thread; must not block.
    /// - Throws: `CancellationError` when stopped; ``CohortError`` and ``RunFailure`` for failures.
    func run(
        _ command: TrainCommand, peerId: String, ownerId: String?, credential: String, control: RunControl, progress: ProgressReporter,
        report: @escaping @Sendable (HeartbeatEvent) -> Void
    ) async throws -> (results: DoneResults, update: Update?) {
        let context = TraceParent(command.traceparent)?.context ?? .topLevel
        return try await withSpan("train", context: context) { span in
            span.attributes["cohort.session"] = command.work.sessionId
            span.attributes["cohort.round"] = command.work.round
            span.attributes["cohort.peer"] = peerId
            let outcome = try await work(
                on: command, peerId: peerId, ownerId: ownerId, credential: credential, control: control, progress: progress, report: report)
            span.attributes["cohort.samples"] = outcome.results.samples
            return outcome
        }
    }

    private func work(
        on command: TrainCommand, peerId: String, ownerId: String?, credential: String, control: RunControl, progress: ProgressReporter,
        report: @escaping @Sendable (HeartbeatEvent) -> Void
    ) async throws -> (results: DoneResults, update: Update?) {
        checkPoint?(command.checkPoint(.enabled, epoch: 0))
        try control.check()
        limiter.begin()
        let source = RowLoader.Source(sessionId: command.work.sessionId, peerId: peerId, credential: credential)
        let dataset = try await withSpan("load the data set") { _ in
            try await loader.dataset(for: command, from: source, control: control, progress: progress)
        }
        try dataset.check(command.start.model)
        let (model, values) = try await models.model(for: command, ownerId: ownerId)
        let start = command.layout.parameters(of: values)
        let variates = updates.controlVariates(for: command, values: values)
        try model.load(correction: variates?.correction)
        // A module may never end.
        control.whenStopped(model.interrupt)
        defer { control.whenStopped(nil) }
        try control.check()

        limiter.begin()
        let validationRows = try dataset.validationRows(command.plan.validationRows)
        func evaluate(named description: String) throws -> Counts {
            let counts = try model.evaluate(ahead: validationRows, of: dataset.prepared) {
                limiter.shouldContinue(control, progress: progress, phase: .evaluating)
            }
            try control.check()
            try Self.checkFinite(counts, named: description, for: command)
            return counts
        }
        let round = command.work.round + 1
        var evaluation: Counts?
        if command.start.weightsUrl != nil, command.plan.validationRows != nil {
            evaluation = try evaluate(named: "the weights that round \(round) starts from give")
        }

        var training = TrainingRun(
            command: command, peerId: peerId, control: control, limiter: limiter, progress: progress, checkPoint: checkPoint, report: report
        )
        if command.plan.epochs > 0 { try training.train(model, on: dataset, validationRows: validationRows) }
        engine.logNotes()

        let ownEvaluation = command.plan.evaluateAfter ? try evaluate(named: "the model of round \(round) gives") : nil
        checkPoint?(command.checkPoint(.upload, epoch: training.epochs))
        try control.check()
        let update = try await withSpan("send the update") { _ in
            try await updates.send(model, from: start, command: command, variates: variates, rates: training.rates, progress: progress)
        }
        checkPoint?(command.checkPoint(.done, epoch: training.epochs))
        try control.check()
        let results = DoneResults(
            loss: training.last?.loss, accuracy: command.start.model.task == .classification ? training.last?.accuracy : nil,
            samples: training.samples, epochs: training.epochs, seconds: training.seconds, evaluation: evaluation,
            ownEvaluation: ownEvaluation, optimizerSteps: update?.optimizerSteps)
        return (results, update)
    }

    /// - Throws: ``RunFailure`` for sums that are not finite: messages cannot carry them, and such a model is of no use.
    private static func checkFinite(_ counts: Counts, named description: String, for command: TrainCommand) throws {
        guard ![counts.lossSum, counts.targetSum, counts.targetSquareSum].allSatisfy(\.isFinite) else { return }
        throw RunFailure(
            message:
                "\(description) a loss of \(counts.lossSum) on the held-out rows: lower the learning rate (lr is \(command.options.learningRate))",
            retryable: false)
    }
}

/// The engine, made on first use on the training thread.
final class LazyEngine {
    private let make: @Sendable () throws -> any TrainingEngine
    private let logger: Logger
    private var engine: (any TrainingEngine)?
    /// The engine's notes that are in the log already.
    private var notes: Set<String> = []

    init(make: @escaping @Sendable () throws -> any TrainingEngine, logger: Logger) {
        self.make = make
        self.logger = logger
    }

    func loaded() throws -> any TrainingEngine {
        if let engine { return engine }
        let made = try make()
        engine = made
        return made
    }

    func logNotes() {
        for note in engine?.notes ?? [] where notes.insert(note).inserted { logger.notice("\(note)") }
    }
}

extension RowLoader {
    /// The rows that a command needs: to train on, then to measure on.
    fileprivate nonisolated(nonsending) func dataset(
        for command: TrainCommand, from source: Source, control: RunControl, progress: ProgressReporter
    ) async throws -> Dataset {
        try await dataset(command.table, data: command.plan.rowData, from: source, control: control, progress: progress) { parts in
            let measured = command.plan.validationRows
            if let measured, !measured.isValid(among: parts.validationRows) {
                throw CohortError(
                    .invalid,
                    "validation rows \(measured.start) to \(measured.end) were assigned, but there are \(parts.validationRows)")
            }
            return command.plan.rows + (measured.map { [$0.moved(by: parts.trainingRows)] } ?? [])
        }
    }
}
