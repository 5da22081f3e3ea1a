import CohortCore
import CohortTracing
import CohortTraining
import CohortWire
import FoundationEssentials
import Tracing

/// The epochs of one round on one peer. Blocks; lives on the training thread.
struct TrainingRun {
    let command: TrainCommand
    let peerId: String
    let control: RunControl
    let limiter: LoadLimiter
    let progress: ProgressReporter
    let checkPoint: (@Sendable (CheckPoint) -> Void)?
    let report: @Sendable (HeartbeatEvent) -> Void

    /// The counts of the last epoch that trained on any row.
    private(set) var last: Counts?
    private(set) var samples = 0
    /// Whole ones.
    private(set) var epochs = 0
    /// Spent training.
    private(set) var seconds = 0.0
    /// The sum of all steps' learning rates, for control variates.
    private(set) var rates = 0.0

    init(
        command: TrainCommand, peerId: String, control: RunControl, limiter: LoadLimiter, progress: ProgressReporter,
        checkPoint: (@Sendable (CheckPoint) -> Void)?,
        report: @escaping @Sendable (HeartbeatEvent) -> Void
    ) {
        self.command = command
        self.peerId = peerId
        self.control = control
        self.limiter = limiter
        self.progress = progress
        self.checkPoint = checkPoint
        self.report = report
    }

    /// - Parameter validationRows: looked at after each epoch when stopping early was asked for.
    /// - Throws: `CancellationError` when stopped, ``RunFailure`` when the loss is not finite any more.
    mutating func train(_ model: any TrainableModel, on dataset: Dataset, validationRows: ArraySlice<UInt32>) throws {
        let table = dataset.table
        let rows = try EpochOrder.rows(at: command.plan.rows, in: table)
        let clock = ContinuousClock()
        let deadline = command.plan.timeLimit.map { clock.now + .seconds($0) }
        let (control, limiter, progress, checkPoint, command) = (control, limiter, progress, checkPoint, command)
        let isWanted = { !control.isStopped && deadline.map { clock.now < $0 } ?? true }
        checkPoint?(command.checkPoint(.firstBatch, epoch: 0))
        limiter.begin()
        var stopping = command.plan.earlyStopping.flatMap { validationRows.isEmpty ? nil : EarlyStopping(patience: $0) }

        // Of plain SGD, whose state is the number of its steps.
        let sumsRates = command.layout.streams == [WeightsLayout.controlVariate]
        var options = command.options
        let stepsOfEpoch = max(1, (rows.count + options.batchSize - 1) / max(options.batchSize, 1))
        for epoch in 1...command.plan.epochs {
            // Of the epoch's rows, in its order, those that the steps which are left train on.
            let left = command.plan.steps.map { max(0, max(0, $0) - (epoch - 1) * stepsOfEpoch) } ?? stepsOfEpoch
            let wanted = left < stepsOfEpoch ? left * options.batchSize : rows.count
            guard wanted > 0 else { break }
            let start = clock.now
            var order = EpochOrder(
                rows, of: table, batchSize: options.batchSize, seed: command.options.dropoutSeed, round: command.work.round,
                epoch: epoch - 1)
            options.learningRate = command.options.learningRate * (command.plan.lrSchedule?.factor(epoch: epoch - 1) ?? 1)
            var counts = Counts()
            var untilHalf = max(1, (rows.count + options.batchSize - 1) / max(options.batchSize, 1) / 2)
            // Asked before every batch.
            let shouldContinue = {
                if let checkPoint {
                    if untilHalf == 0 { checkPoint(command.checkPoint(.midEpoch, epoch: epoch - 1)) }
                    untilHalf -= 1
                }
                progress.sign(.training, Double(epoch - 1) / Double(command.plan.epochs))
                limiter.pause {
                    progress.sign(.training, Double(epoch - 1) / Double(command.plan.epochs))
                    return isWanted()
                }
                return isWanted()
            }
            let steps = try sumsRates ? model.optimizerState().steps : 0
            var offered = 0
            while isWanted(), offered < wanted, let piece = order.next() {
                let some = piece.count <= wanted - offered ? piece : Array(piece.prefix(wanted - offered))
                offered += some.count
                counts =
                    try counts
                    + model.train(on: dataset.prepared, rows: some, options: options, shouldContinue: shouldContinue)
            }
            let spent = (clock.now - start).inSeconds
            try control.check()
            if sumsRates { rates += Double(try model.optimizerState().steps - steps) * options.learningRate }
            seconds += spent
            samples += counts.samples
            if counts.samples > 0 { last = counts }
            guard counts.lossSum.isFinite else { throw RunFailure.diverged(command, epoch: epoch) }
            // The time limit cut this epoch short: answer with the steps done.
            guard counts.samples == wanted else { break }
            if wanted == rows.count { epochs = epoch }

            var validation: Counts?
            if stopping != nil {
                validation = try model.evaluate(ahead: validationRows, of: dataset.prepared) {
                    progress.sign(.evaluating)
                    limiter.pause { !control.isStopped }
                    return !control.isStopped
                }
                try control.check()
            }
            trace(epoch: epoch, spent: spent, counts: counts)
            report(counts, spent: spent, epoch: epoch, validation: validation)
            if let loss = validation?.loss, try stopping?.shouldStop(after: loss, weights: model.parameters) == true { break }
            if let deadline, clock.now >= deadline { break }
        }
        if let best = stopping?.weights { try model.load(parameters: best) }
    }

    private func trace(epoch: Int, spent: Double, counts: Counts) {
        guard let context = ServiceContext.current, context.traceParent != nil else { return }
        let end = Date()
        var attributes: SpanAttributes = ["cohort.epoch": .int64(Int64(epoch)), "cohort.samples": .int64(Int64(counts.samples))]
        attributes["cohort.loss"] = counts.loss
        SessionTrace.record("epoch", in: context, from: end.addingTimeInterval(-spent), to: end, attributes)
    }

    private func report(_ counts: Counts, spent: Double, epoch: Int, validation: Counts?) {
        guard let loss = counts.loss else { return }
        progress.restart()
        report(
            HeartbeatEvent(
                sessionId: command.work.sessionId, peerId: peerId, generation: command.work.generation, round: command.work.round,
                epoch: epoch,
                loss: loss, accuracy: command.start.model.task == .classification ? counts.accuracy : nil,
                samplesPerSecond: spent > 0 ? Double(counts.samples) / spent : nil, progress: Double(epoch) / Double(command.plan.epochs),
                validation: validation?.metrics(command.start.model.task)))
    }
}

extension Duration {
    var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
