import CohortCore
import CohortSession
import FoundationEssentials
import Testing

@Suite struct Settings {
    @Test(arguments: [
        (SessionSettings(peers: 0), "peers is 0"), (SessionSettings(peers: 1_000_000), "peers is 1000000"),
        (SessionSettings(rounds: 0), "rounds is 0"), (SessionSettings(epochs: 0), "epochs is 0"),
        (SessionSettings(batchSize: 0), "batch_size is 0"), (SessionSettings(batchSize: -1), "batch_size is -1"),
        (SessionSettings(lr: .nan), "lr is nan"), (SessionSettings(lr: .infinity), "lr is inf"), (SessionSettings(lr: 0), "lr is 0"),
        (SessionSettings(hidden: [0]), "hidden is 0"), (SessionSettings(dropout: 1), "dropout is 1"),
        (SessionSettings(validation: 1), "validation is 1"), (SessionSettings(peers: 2, minPeers: 3), "min_peers is 3"),
        (SessionSettings(perPeer: ["a": .init(epochs: 0)]), "per_peer.a.epochs is 0"),
        (SessionSettings(optimizer: OptimizerSpec(name: .adam, momentum: 0.9)), "momentum is 0.9"),
        (SessionSettings(optimizer: OptimizerSpec(name: .sgd, nesterov: true)), "nesterov is true"),
        (SessionSettings(earlyStopping: 0), "early_stopping is 0"),
        (SessionSettings(classWeight: .byLabel(["a": 0])), "class_weight.a is 0"),
    ]) func `invalid values are named, with what would be right`(settings: SessionSettings, sentence: String) {
        let error = #expect(throws: CohortError.self) { try settings.check() }
        #expect(error?.message.contains(sentence) == true && error?.message.contains("must be") == true, "\(error?.message ?? "")")
    }

    @Test func `a peer's overrides count, by id before name`() {
        let settings = SessionSettings(epochs: 3, batchSize: 32, lr: 0.1, perPeer: ["id": .init(lr: 0.2), "name": .init(lr: 0.3)])
        #expect(settings.hyperparameters(peerId: "id", name: "name") == Hyperparameters(batchSize: 32, epochs: 3, lr: 0.2))
        #expect(settings.hyperparameters(peerId: "x", name: "name").lr == 0.3)
        #expect(settings.hyperparameters(peerId: "x", name: "y").lr == 0.1)
    }

    @Test func `per-peer overrides keep the peers' names as they are`() throws {
        let settings = SessionSettings(perPeer: ["lena_mbp": .init(batchSize: 8), "lenaMBP": .init(lr: 0.1)])
        #expect(try CohortJSON.decode(SessionSettings.self, from: CohortJSON.encode(settings)) == settings)
    }
}

@Suite struct WeightsOfClasses {
    private func schema(_ counts: [Int]?, task: LearningTask = .classification) -> TableSchema {
        TableSchema(
            hasHeader: true, delimiter: ",", columns: [], target: "y", task: task, classes: ["no", "snake_case", "camelCase"],
            validation: 0, splitSeed: 0, trainingRows: 12, validationRows: 0, droppedRows: 0, classCounts: counts)
    }

    @Test func `balanced weights make the classes count alike`() throws {
        let weights = try ClassWeight.balanced.weights(of: schema([8, 3, 1]))
        #expect(weights == [0.5, 12.0 / 9, 4])
        #expect(zip(weights, [8.0, 3, 1]).allSatisfy { abs($0 * $1 - 4) < 1e-12 })
    }

    @Test func `labels keep their case on the wire`() throws {
        let given = ClassWeight.byLabel(["snake_case": 2, "camelCase": 0.5])
        let settings = SessionSettings(classWeight: given)
        #expect(try CohortJSON.decode(SessionSettings.self, from: CohortJSON.encode(settings)) == settings)
        #expect(try ClassWeight.parse(#"{"snake_case": 2, "camelCase": 0.5}"#) == given)
        #expect(try given.weights(of: schema(nil)) == [1, 2, 0.5])
        #expect(try CohortJSON.decode(ClassWeight.self, from: CohortJSON.encode(ClassWeight.balanced)) == .balanced)
        #expect(try ClassWeight.parse("none") == nil)
    }

    @Test func `invalid weights are reported`() {
        for (weight, task, sentence) in [
            (ClassWeight.balanced, LearningTask.regression, "for classification"), (.byLabel(["maybe": 2]), .classification, "'maybe'"),
        ] {
            let error = #expect(throws: CohortError.self) { try weight.weights(of: schema([1, 1, 1], task: task)) }
            #expect(error?.message.contains(sentence) == true, "\(error?.message ?? "")")
        }
        #expect(throws: CohortError.self) { try ClassWeight.parse("balance") }
    }
}
