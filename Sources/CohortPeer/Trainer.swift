import CohortClient
import CohortCore
import CohortSystem
import CohortTracing
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials
import Logging
import Tracing

/// Executes TRAIN on a separate thread: data set, weights, epochs, evaluation, upload. Keeps the last data set and model from
/// round to round.
actor Trainer {
    private let executor: ThreadExecutor
    private let makeEngine: @Sendable () throws -> any TrainingEngine
    private let objects: ObjectTransfer
    private let cache: DatasetCache
    private let limiter: LoadLimiter
    private let maxLoad: Int
    /// The users whose modules it runs.
    private let allowsModules: Pool
    private let checkPoint: (@Sendable (CheckPoint) -> Void)?
    private let report: @Sendable (PeerActivity) -> Void
    private let logger: Logger

    private var engine: (any TrainingEngine)?
    /// The engine's notes that were logged already.
    private var notes: [String] = []
    private var dataset: Dataset?
    private var model: (any TrainableModel)?
    /// The rounding errors of earlier updates, and this peer's control variate.
    private var feedback, variate: CountedVector
    /// The session whose rounds the model's optimizer remembers.
    private var rememberedSession: String?

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(
        executor: ThreadExecutor, makeEngine: @escaping @Sendable () throws -> any TrainingEngine, objects: ObjectTransfer,
        cache: DatasetCache, roundsFolder: String, maxLoad: Int, allowsModules: Pool, checkPoint: (@Sendable (CheckPoint) -> Void)?,
        report: @escaping @Sendable (PeerActivity) -> Void, logger: Logger
    ) {
        self.executor = executor
        self.makeEngine = makeEngine
        self.objects = objects
        self.cache = cache
        self.maxLoad = maxLoad
        self.allowsModules = allowsModules
        limiter = LoadLimiter(percent: maxLoad)
        self.checkPoint = checkPoint
        self.report = report
        self.logger = logger
        feedback = CountedVector("error-feedback", folder: roundsFolder, logger: logger)
        variate = CountedVector("control-variate", folder: roundsFolder, logger: logger)
    }

    func engineIdentity() throws -> (name: String, device: String, runsModules: Bool) {
        let engine = try loadedEngine()
        return (engine.name, engine.device, engine.runsModules)
    }

    /// Samples a second on the fixed small net, as far as the load allows.
    func measure() throws -> Double { try loadedEngine().measureSamplesPerSecond(for: 0.2) * Double(maxLoad) / 100 }

    /// Releases the data set and the model.
    func release() {
        dataset = nil
        model = nil
        rememberedSession = nil
        feedback.forget()
        variate.forget()
        Machine.trimMemory()
    }

    /// Loads a data set, so that the first work on it begins at once.
    func prepare(_ links: DatasetLinks, control: RunControl, progress: ProgressReporter) async throws {
        limiter.begin()
        _ = try await dataset(links, control: control, progress: progress)
    }

    /// - Parameters:
    ///   - ownerId: of this machine.
    ///   - report: told after each epoch, on the training thread; must not block.
    /// - Throws: `CancellationError` when stopped; ``CohortError`` and ``RunFailure`` for what went wrong.
    func run(
        _ command: TrainCommand, peerId: String, ownerId: String?, control: RunControl, progress: ProgressReporter,
        report: @escaping @Sendable (HeartbeatEvent) -> Void
    ) async throws -> (results: DoneResults, update: Update?) {
        let context = TraceParent(command.traceparent)?.context ?? .topLevel
        return try await withSpan("train", context: context) { span in
            span.attributes["cohort.session"] = command.sessionId
            span.attributes["cohort.round"] = command.round
            span.attributes["cohort.peer"] = peerId
            let outcome = try await work(
                on: command, peerId: peerId, ownerId: ownerId, control: control, progress: progress, report: report)
            span.attributes["cohort.samples"] = outcome.results.samples
            return outcome
        }
    }

    private func work(
        on command: TrainCommand, peerId: String, ownerId: String?, control: RunControl, progress: ProgressReporter,
        report: @escaping @Sendable (HeartbeatEvent) -> Void
    ) async throws -> (results: DoneResults, update: Update?) {
        checkPoint?(command.checkPoint(.enabled, epoch: 0))
        try control.check()
        limiter.begin()
        let dataset = try await withSpan("load the data set") { _ in
            try await self.dataset(command.dataset, control: control, progress: progress)
        }
        try dataset.fits(command.model)
        let (model, values) = try await preparedModel(command, ownerId)
        let start = command.layout.parameters(of: values)
        var variates: ControlVariates?
        if command.epochs > 0, command.layout.streams == [WeightsLayout.controlVariate] {
            // In the first round there is none.
            let ofAll = command.layout.controlVariate(of: values) ?? [Float](repeating: 0, count: start.count)
            let own = variate.counted(for: command, WeightsLayout(command.model))
            variates = ControlVariates(ofAll: ofAll, own: own ?? ofAll)
        }
        try model.load(correction: variates?.correction)
        // A module may never end.
        control.whenStopped(model.interrupt)
        defer { control.whenStopped(nil) }
        try control.check()

        limiter.begin()
        let evaluated = try dataset.validationRows(command.validationRows)
        var evaluation: Counts?
        if command.weightsUrl != nil, command.validationRows != nil {
            evaluation = try model.evaluate(ahead: evaluated, of: dataset.prepared) {
                shouldContinue(control, progress: progress, phase: .evaluating)
            }
            try control.check()
            try Self.checkFinite(evaluation, named: "the weights that round \(command.round + 1) starts from give", for: command)
        }

        var training = TrainingRun(
            command: command, peerId: peerId, control: control, limiter: limiter, progress: progress, checkPoint: checkPoint, report: report
        )
        if command.epochs > 0 { try training.train(model, on: dataset, validationRows: evaluated) }
        logNotes()

        var ownEvaluation: Counts?
        if command.evaluateAfter {
            ownEvaluation = try model.evaluate(ahead: evaluated, of: dataset.prepared) {
                shouldContinue(control, progress: progress, phase: .evaluating)
            }
            try control.check()
            try Self.checkFinite(ownEvaluation, named: "the model of round \(command.round + 1) gives", for: command)
        }
        checkPoint?(command.checkPoint(.upload, epoch: training.epochs))
        try control.check()
        let update = try await withSpan("send the update") { _ in
            try await upload(model, from: start, command: command, variates: variates, rates: training.rates, progress: progress)
        }
        checkPoint?(command.checkPoint(.done, epoch: training.epochs))
        try control.check()
        let results = DoneResults(
            loss: training.last?.loss, accuracy: command.model.task == .classification ? training.last?.accuracy : nil,
            samples: training.samples, epochs: training.epochs, seconds: training.seconds, evaluation: evaluation,
            ownEvaluation: ownEvaluation, optimizerSteps: update?.optimizerSteps)
        return (results, update)
    }

    /// - Throws: ``RunFailure`` for sums that are not finite: the messages cannot carry them, and they say that the model is of no use.
    private static func checkFinite(_ counts: Counts?, named what: String, for command: TrainCommand) throws {
        guard let counts, ![counts.lossSum, counts.targetSum, counts.targetSquareSum].allSatisfy(\.isFinite) else { return }
        throw RunFailure(
            message: "\(what) a loss of \(counts.lossSum) on the held-out rows: lower the learning rate (lr is \(command.lr))",
            retryable: false)
    }

    /// Between two pieces of work: pauses as the load limit asks; false once the work is not wanted any more.
    private func shouldContinue(_ control: RunControl, progress: ProgressReporter, phase: ProgressEvent.Phase) -> Bool {
        progress.sign(phase)
        limiter.pause {
            progress.sign(phase)
            return !control.isStopped
        }
        return !control.isStopped
    }

    private func loadedEngine() throws -> any TrainingEngine {
        if let engine { return engine }
        let made = try makeEngine()
        engine = made
        return made
    }

    private func logNotes() {
        for note in engine?.notes ?? [] where !notes.contains(note) {
            notes.append(note)
            logger.notice("\(note)")
        }
    }

    // MARK: Weights

    /// Returns the model with the weights at `weights_url`, or with those of the model's seed, which begin `values`. Its buffers are kept
    /// while the shape stays the same.
    private func preparedModel(_ command: TrainCommand, _ ownerId: String?) async throws -> (any TrainableModel, values: [Float]) {
        try checkModule(command, ownerId)
        let layout = command.layout
        try layout.check(command.optimizer)
        try command.updateLayout.check(command.optimizer)
        let values: [Float]
        if let link = command.weightsUrl {
            values = try Weights.decode(try await weightsFile(command, at: link), layout)
        } else {
            values = initialParameters(command.model, seed: command.modelSeed)
        }
        let weights = layout.parameters(of: values)
        func state(_ own: OptimizerState?) -> OptimizerState? {
            layout.optimizerState(of: values, command.optimizer, steps: command.optimizerSteps ?? 0, own: own)
        }
        if let model, model.isUsable, model.spec == command.model {
            let keeps = command.optimizerState == .keep && rememberedSession == command.sessionId
            try model.load(parameters: weights, keepsOptimizer: keeps)
            if let state = state(keeps && !layout.streams.isEmpty ? try model.optimizerState() : nil) {
                try model.load(optimizerState: state)
            }
            rememberedSession = command.sessionId
            return (model, values)
        }
        model = nil
        rememberedSession = nil
        var module: [UInt8]?
        if let spec = command.model.module, let link = command.moduleUrl {
            logger.notice("this session trains a module of \(command.moduleOwner == ownerId ? "your own" : "another person's")")
            module = try await objects.get(link, sha256: spec.sha256, limit: ModuleFile.maxBytes)
        }
        let made = try loadedEngine().makeModel(command.model, module: module)
        try made.load(parameters: weights)
        if let state = state(nil) { try made.load(optimizerState: state) }
        model = made
        rememberedSession = command.sessionId
        return (made, values)
    }

    /// Checks that this peer runs the owner's modules.
    /// - Throws: ``CohortError`` `invalid` for one that this peer does not run.
    private func checkModule(_ command: TrainCommand, _ ownerId: String?) throws {
        guard command.model.module != nil else { return }
        guard command.moduleUrl != nil else { throw CohortError(.invalid, "TRAIN has a module and no module_url") }
        guard allowsModules == .everyone || ownerId != nil && ownerId == command.moduleOwner else {
            throw CohortError(
                .invalid,
                "the session trains another person's module, which is that person's code: this peer runs such when it is started with --allow-models everyone"
            )
        }
    }

    /// Returns the weights file from the message or from the link.
    private func weightsFile(_ command: TrainCommand, at link: String) async throws -> [UInt8] {
        if let data = command.weights, SHA256.hash(data: data).hexadecimal == command.weightsSha256 { return [UInt8](data) }
        do {
            return try await objects.get(link, sha256: command.weightsSha256, limit: Weights.maxBytes(command.layout))
        } catch let error as CohortError where error.code == .notFound || error.code == .forbidden {
            // A command that waited while this machine slept, or its server was away.
            throw RunFailure(
                message: "the weights of round \(command.round + 1) are not there any more: the session has gone on meanwhile",
                retryable: true,
                isStale: true)
        }
    }

    private func upload(
        _ model: any TrainableModel, from start: [Float], command: TrainCommand, variates: ControlVariates?, rates: Double,
        progress: ProgressReporter
    ) async throws -> Update? {
        guard let link = command.updateUrl, let key = command.updateKey else { return nil }
        let layout = command.updateLayout
        let state = layout.streams.isEmpty || variates != nil ? nil : try model.optimizerState()
        var parameters = try model.parameters()
        if let variates {
            parameters += variates.next(from: start, to: parameters, rates: rates)
        } else {
            parameters = layout.values(parameters, state)
        }
        guard parameters.allSatisfy(\.isFinite) else { throw RunFailure.diverged(command, epoch: command.epochs) }
        let bytes: [UInt8]
        if let compression = command.updateCompression, compression != .none {
            var rest = feedback.counted(for: command, WeightsLayout(command.model)) ?? []
            bytes = try UpdateFile.encode(layout, values: parameters, start: start, compression: compression, rest: &rest)
            if !rest.isEmpty { feedback.keep(rest, of: command, WeightsLayout(command.model)) }
        } else {
            bytes = try Weights.encode(layout, parameters)
        }
        if variates != nil {
            // As it was sent: what all have of it, and what this peer goes on from, are the same to the bit.
            if command.updateCompression ?? .none != .none { parameters = try UpdateFile.decode(bytes, layout, start: start) }
            variate.keep(Array(parameters.suffix(start.count)), of: command, WeightsLayout(command.model))
        }
        let reference = ObjectReference(key: key, sha256: SHA256.hash(data: bytes).hexadecimal, bytes: bytes.count)
        if let limit = command.inlineUpdateBytes, bytes.count <= limit {
            return Update(reference: reference, data: Data(bytes), optimizerSteps: state?.steps)
        }
        try await objects.upload(bytes, to: link) { progress.sign(.uploading, $0) }
        return Update(reference: reference, data: nil, optimizerSteps: state?.steps)
    }

    // MARK: Data

    /// The data set of the command: the one that is open, one from the cache, or one that is downloaded first.
    private func dataset(_ command: DatasetLinks, control: RunControl, progress: ProgressReporter) async throws -> Dataset {
        let inline = try command.schemaSha256 == nil ? command.schema.map { try CohortJSON.encode($0) } : nil
        guard let schemaHash = command.schemaSha256 ?? inline.map({ SHA256.hash(data: $0).hexadecimal }) else {
            throw CohortError(.invalid, "TRAIN has neither a schema nor a schema_sha256")
        }
        if let dataset, dataset.csvSha256 == command.csvSha256, dataset.schemaHash == schemaHash { return dataset }
        dataset = nil
        let schema = try await schema(command)
        try schema.check()
        guard let name = command.csvSha256.safeFileName, schemaHash.safeFileName != nil else {
            throw CohortError(.invalid, "csv_sha256 is not a SHA-256 in hexadecimal")
        }
        let csv = cache.csvPath(sha256: name)
        let table = cache.tablePath(csvSha256: name, schemaHash: schemaHash)
        let inUse: Set = [csv, "\(csv).part", table]
        func opened() throws -> Dataset {
            Dataset(
                csvSha256: command.csvSha256, schemaHash: schemaHash, schema: schema,
                prepared: try loadedEngine().prepare(try TableLoader.open(cacheAt: table)))
        }
        if let cached = try? opened() {
            cache.markUsed(table)
            dataset = cached
            return cached
        }
        do {
            try await makeTable(table, csv: csv, schema: schema, for: command, control: control, progress: progress, inUse: inUse)
        } catch let error as CohortError where error.code == .storageFull && cache.clear(keeping: inUse) {
            // Other data sets go before this one fails.
            try await makeTable(table, csv: csv, schema: schema, for: command, control: control, progress: progress, inUse: inUse)
        }
        cache.makeRoom(for: 0, keeping: inUse)
        let made = try opened()
        dataset = made
        return made
    }

    private func makeTable(
        _ table: String, csv: String, schema: TableSchema, for command: DatasetLinks, control: RunControl, progress: ProgressReporter,
        inUse: Set<String>
    ) async throws {
        do {
            if !cache.has(csv, bytes: command.csvBytes) {
                cache.makeRoom(for: command.csvBytes, keeping: inUse)
                report(.loading(bytes: command.csvBytes))
                logger.info("downloading the data set", metadata: ["bytes": "\(command.csvBytes)"])
                try await objects.download(command.csvUrl, to: csv, sha256: command.csvSha256, bytes: command.csvBytes) {
                    progress.sign(.loading, $0)
                }
            }
            limiter.begin()
            try TableLoader.build(csvAt: csv, schema: schema, cacheAt: table) {
                shouldContinue(control, progress: progress, phase: .loading)
            }
        } catch let error as CohortError where error.code == .storageFull {
            // A full disk is not kept full for a download that cannot end.
            cache.remove("\(csv).part")
            throw error
        }
    }

    private func schema(_ command: DatasetLinks) async throws -> TableSchema {
        if let schema = command.schema { return schema }
        guard let link = command.schemaUrl else { throw CohortError(.invalid, "TRAIN has neither a schema nor a schema_url") }
        return try CohortJSON.decode(TableSchema.self, from: try await objects.get(link, sha256: command.schemaSha256, limit: 256 << 20))
    }
}

/// A round's weights: uploaded, or small enough to go in DONE.
struct Update: Sendable {
    var reference: ObjectReference
    var data: Data?
    /// The optimizer's steps, where its moments travel with the weights.
    var optimizerSteps: Int?
}

/// A data set as it is trained on, and what it was made from.
final class Dataset: Sendable {
    let csvSha256: String
    let schemaHash: String
    let schema: TableSchema
    /// The table as the engine needs it.
    let prepared: any PreparedTable
    var table: FeatureTable { prepared.table }

    init(csvSha256: String, schemaHash: String, schema: TableSchema, prepared: any PreparedTable) {
        self.csvSha256 = csvSha256
        self.schemaHash = schemaHash
        self.schema = schema
        self.prepared = prepared
    }

    /// - Throws: ``CohortError`` `invalid` when the model is for another table.
    func fits(_ model: ModelSpec) throws {
        guard model.inputs == table.featureCount, model.outputs == schema.outputCount, model.task == schema.task else {
            throw CohortError(
                .invalid,
                "the model takes \(model.inputs) features to \(model.outputs) outputs (\(model.task)), the data set has \(table.featureCount) and \(schema.outputCount) (\(schema.task))"
            )
        }
    }

    /// The validation rows at these positions; all when nil.
    func validationRows(_ range: RowRange?) throws -> ArraySlice<UInt32> {
        guard let range else { return table.validationRows[...] }
        guard range.start >= 0, range.start <= range.end, range.end <= table.validationRows.count else {
            throw CohortError(
                .invalid, "validation rows \(range.start) to \(range.end) were assigned, but there are \(table.validationRows.count)")
        }
        return table.validationRows[range.start..<range.end]
    }
}

extension RunControl {
    /// - Throws: `CancellationError` when the work is not wanted any more.
    func check() throws {
        if isStopped { throw CancellationError() }
    }
}

extension RunFailure {
    static func diverged(_ command: TrainCommand, epoch: Int) -> RunFailure {
        RunFailure(
            message:
                "the loss is not a number any more after epoch \(epoch): training diverged; lower the learning rate (lr is \(command.lr))",
            retryable: false)
    }
}

extension String {
    /// Itself when it is 64 hexadecimal digits: it becomes a file's name.
    fileprivate var safeFileName: String? { utf8.count == 64 && allSatisfy(\.isHexDigit) ? self : nil }
}

extension WeightsLayout {
    /// - Throws: ``CohortError`` `invalid` when this is not what training by the optimizer leaves.
    fileprivate func check(_ optimizer: OptimizerSpec) throws {
        if streams == optimizer.streamNames.filter(streams.contains) { return }
        let name = optimizer.name.rawValue
        guard streams == [Self.controlVariate] else {
            throw CohortError(.invalid, "streams are \(streams); \(name) has \(optimizer.streamNames)")
        }
        guard optimizer.name == .sgd, optimizer.momentum == 0 else {
            throw CohortError(.invalid, "streams are \(streams), which are of plain SGD; the optimizer is \(name)")
        }
    }
}
