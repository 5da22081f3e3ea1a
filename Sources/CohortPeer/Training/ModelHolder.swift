import CohortClient
import CohortCore
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import Logging

/// Holds the model from round to round: its buffers are kept while its shape stays the same. Lives on the training thread.
final class ModelHolder {
    private let engine: LazyEngine
    private let objects: ObjectTransfer
    /// The users whose modules this peer runs.
    private let allowsModules: Pool
    private let logger: Logger
    private var model: (any TrainableModel)?
    /// The session whose rounds the model's optimizer remembers.
    private var rememberedSession: String?

    init(engine: LazyEngine, objects: ObjectTransfer, allowsModules: Pool, logger: Logger) {
        self.engine = engine
        self.objects = objects
        self.allowsModules = allowsModules
        self.logger = logger
    }

    func release() {
        model = nil
        rememberedSession = nil
    }

    /// Returns the model with the weights at `weights_url`, or with those of the model's seed.
    /// - Returns: the model, and the numbers of the weights file: weights, then streams.
    /// - Throws: ``CohortError`` `invalid` for a module that this peer does not run, and for weights of another layout; ``RunFailure`` for
    ///   weights that no longer exist.
    nonisolated(nonsending) func model(
        for command: TrainCommand, ownerId: String?
    ) async throws -> (model: any TrainableModel, values: [Float]) {
        let (start, optimizer) = (command.start, command.options.optimizer)
        try checkModule(start, ownerId: ownerId)
        let layout = command.layout
        try layout.check(optimizer)
        try command.updateLayout.check(optimizer)
        let values: [Float]
        if let link = start.weightsUrl {
            values = try Weights.decode(try await weightsFile(for: command, at: link), layout)
        } else {
            values = initialParameters(start.model, seed: start.modelSeed)
        }
        let weights = layout.parameters(of: values)
        func state(_ own: OptimizerState?) -> OptimizerState? {
            layout.optimizerState(of: values, optimizer, steps: start.optimizerSteps ?? 0, own: own)
        }
        let session = command.work.sessionId
        if let model, model.isUsable, model.spec == start.model {
            let keeps = command.plan.optimizerState == .keep && rememberedSession == session
            try model.load(parameters: weights, keepsOptimizer: keeps)
            if let state = state(keeps && !layout.streams.isEmpty ? try model.optimizerState() : nil) {
                try model.load(optimizerState: state)
            }
            rememberedSession = session
            return (model, values)
        }
        release()
        var module: [UInt8]?
        if let spec = start.model.module, let link = start.moduleUrl {
            logger.notice("this session trains a module of \(start.moduleOwner == ownerId ? "your own" : "another person's")")
            module = try await objects.get(link, sha256: spec.sha256, limit: ModuleFile.maxBytes)
        }
        let made = try engine.loaded().makeModel(start.model, module: module)
        try made.load(parameters: weights)
        if let state = state(nil) { try made.load(optimizerState: state) }
        model = made
        rememberedSession = session
        return (made, values)
    }

    /// Checks that this peer runs the owner's modules.
    /// - Throws: ``CohortError`` `invalid` for one that this peer does not run.
    private func checkModule(_ start: StartingModel, ownerId: String?) throws {
        guard start.model.module != nil else { return }
        guard start.moduleUrl != nil else { throw CohortError(.invalid, "TRAIN has a module and no module_url") }
        guard allowsModules == .everyone || ownerId != nil && ownerId == start.moduleOwner else {
            throw CohortError(
                .invalid,
                "the session trains another person's module, which is that person's code: this peer runs such when it is started with --allow-models everyone"
            )
        }
    }

    /// Returns the weights file from the message or from the link.
    private nonisolated(nonsending) func weightsFile(for command: TrainCommand, at link: String) async throws -> [UInt8] {
        let start = command.start
        if let data = start.weights, SHA256.hash(data: data).hexadecimal == start.weightsSha256 { return [UInt8](data) }
        do {
            return try await objects.get(link, sha256: start.weightsSha256, limit: Weights.maxBytes(command.layout))
        } catch let error as CohortError where error.code == .notFound || error.code == .forbidden {
            // A command that waited while this machine slept, or its server was away.
            throw RunFailure(
                message: "the weights of round \(command.work.round + 1) are not there any more: the session has gone on meanwhile",
                retryable: true, isStale: true)
        }
    }
}

extension WeightsLayout {
    /// - Throws: ``CohortError`` `invalid` when the optimizer does not produce these streams.
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
