import CohortCore
package import CohortSession
import CohortSystem
import CohortTracing
import CohortTraining
package import CohortWire
import FoundationEssentials

/// Makes peers' TRAIN from the session's document as it is stored.
struct TrainCommandBuilder {
    /// Bytes of a weights file that travels in the message as well.
    static let maxInlineWeightsBytes = 18 << 10
    /// The additional validity, in seconds, of a link to PUT an update.
    private static let putSeconds = 7 * 86_400.0

    private let session: Session
    private let recipe: WorkRecipe
    private let info: DatasetInfo
    private let model: ModelSpec
    private let table: TableLink
    private let weights: Data?
    private let objects: any ObjectStore
    private let expiry: Date
    /// Every peer's links to what all read.
    private let weightsUrl: String?
    private let moduleUrl: String?
    private let classWeights: [Double]?
    /// The place of each peer among the session's peers by name.
    private let places: [String: Int]

    /// - Parameters:
    ///   - recipe: the strategy's recipe.
    ///   - weights: the current weights as a file, when it is small.
    ///   - expiry: the expiry of the links.
    init(
        session: Session, recipe: WorkRecipe, dataset: DatasetInfo, model: ModelSpec, table: TableLink, weights: Data?,
        objects: any ObjectStore, expiry: Date
    ) async throws {
        self.session = session
        self.recipe = recipe
        info = dataset
        self.model = model
        self.table = table
        self.weights = weights
        self.objects = objects
        self.expiry = expiry
        if let classWeight = session.settings.classWeight {
            classWeights = try classWeight.weights(of: try await SchemaObject(of: session, in: objects).schema)
        } else {
            classWeights = nil
        }
        let byName = session.peers.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        places = Dictionary(byName.enumerated().map { ($1.id, $0) }, uniquingKeysWith: { first, _ in first })
        moduleUrl = model.module == nil ? nil : try await objects.presignedGet(DatasetPreparation.moduleKey(session.id), expiry: expiry)
        weightsUrl = if let weights = session.weights { try await objects.presignedGet(weights.key, expiry: expiry) } else { nil }
    }

    /// The rows that a peer loads before it is given work.
    func rowsAhead(of peer: SessionPeer?) -> RowsAhead? { peer?.rowsAhead.map { RowsAhead(table: table, rows: $0) } }

    func command(for peer: SessionPeer, timeLimit: Double?) async throws -> TrainCommand {
        let isEvaluation = session.round >= session.settings.rounds
        var hyperparameters = session.settings.hyperparameters(of: peer)
        if isEvaluation { hyperparameters.epochs = 0 }
        var command = TrainCommand(
            work: WorkKey(sessionId: session.id, generation: session.generation, round: session.round, attempt: peer.attempt ?? 0),
            csvLink: info.csvLink, table: table, start: start,
            plan: WorkPlan(rows: peer.rows, epochs: hyperparameters.epochs),
            options: TrainingOptions(
                optimizer: session.settings.optimizer, batchSize: hyperparameters.batchSize, learningRate: hyperparameters.lr,
                dropoutSeed: seed(of: peer)))
        command.traceparent =
            SessionTrace(sessionId: session.id, traceparent: session.traceparent)?
            .parent(.round(session.round, generation: session.generation)).text
        command.plan.validationRows = peer.validationRows
        if !isEvaluation {
            command.plan.timeLimit = timeLimit
            command.plan.steps = session.settings.localSteps
            command.plan.apply(session.settings, recipe: recipe, round: session.round)
            command.options.apply(session.settings, recipe: recipe, classWeights: classWeights)
            command.update = try await updateTarget(of: peer)
        }
        return command
    }

    private var start: StartingModel {
        var start = StartingModel(model: model, modelSeed: session.settings.seed)
        start.streams = session.layout.flatMap { $0.streams.isEmpty ? nil : $0.streams }
        if let moduleUrl {
            start.moduleUrl = moduleUrl
            start.moduleOwner = session.ownerId
        }
        if let reference = session.weights {
            start.weightsUrl = weightsUrl
            start.weightsSha256 = reference.sha256
            start.weights = weights
            start.optimizerSteps = session.optimizerSteps
        }
        return start
    }

    private func updateTarget(of peer: SessionPeer) async throws -> UpdateTarget {
        let layout = session.updateLayout ?? WeightsLayout(model)
        let key = Aggregator.key(
            session, generation: session.generation, round: session.round, attempt: peer.attempt ?? 0, peerId: peer.id)
        // The link ends with its round, however long that takes.
        let url = try await objects.presignedPut(
            key, maxBytes: Weights.maxBytes(layout), expiry: expiry.addingTimeInterval(Self.putSeconds))
        return UpdateTarget(
            url: url, key: key, inlineBytes: Self.maxInlineWeightsBytes, streams: layout == session.layout ? nil : layout.streams,
            compression: session.settings.compression(recipe), countedRound: peer.countedRound)
    }

    /// A seed from the session's seed, the round and the peer's place by name, which does not depend on random ids.
    private func seed(of peer: SessionPeer) -> UInt64 {
        var generator = SeededGenerator(seed: session.settings.seed, purpose: "peer/\(places[peer.id] ?? 0)/\(session.round)")
        // A JSON number that every language holds exactly.
        return generator.next() >> 11
    }
}

extension WorkPlan {
    /// Sets what the settings and the strategy's recipe determine of a round's work.
    package mutating func apply(_ settings: SessionSettings, recipe: WorkRecipe, round: Int) {
        optimizerState = settings.optimizerState
        evaluateAfter = recipe.evaluatesOwn
        earlyStopping = recipe.earlyStopping
        lrSchedule = settings.schedulePosition(round: round, epochs: epochs)
    }
}

extension TrainingOptions {
    /// Sets what the settings and the strategy's recipe determine of each step.
    package mutating func apply(_ settings: SessionSettings, recipe: WorkRecipe, classWeights: [Double]?) {
        self.classWeights = classWeights
        proximalMu = recipe.proximalMu ?? 0
        loss = settings.loss
        labelSmoothing = settings.labelSmoothing ?? 0
    }
}

extension SessionSettings {
    /// The format of updates; nil: weights.
    fileprivate func compression(_ recipe: WorkRecipe) -> UpdateCompression? {
        let chosen = updateCompression == UpdateCompression.none ? nil : updateCompression
        return chosen ?? (recipe.sendsChange ? .fp32 : nil)
    }
}
