import CohortCoordinator
import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

@testable import CohortPeer
@testable import CohortServer

/// A value of each setting that differs from its default.
private let others = [
    "peers": "3", "strategy": "every", "rounds": "7", "epochs": "4", "batch_size": "48", "lr": "0.02", "lr_schedule": "cosine",
    "optimizer": "sgd", "momentum": "0.8", "nesterov": "true", "weight_decay": "0.05", "beta1": "0.7", "beta2": "0.95", "epsilon": "1e-06",
    "gradient_clip": "1.5", "optimizer_state": "keep", "proximal_mu": "0.3", "loss": "huber", "server_lr": "0.4",
    "server_momentum": "0.85", "server_tau": "0.002", "weighting": "steps", "malicious_peers": "2", "keep_updates": "true",
    "update_compression": "int8",
    "nearest_neighbor_mixing": "true", "buffer_size": "1", "local_steps": "9",
    "label_smoothing": "0.1", "class_weight": "balanced", "early_stopping": "6",
    "hidden": "9,8",
    "activation": "tanh", "dropout": "0.25", "task": "classification", "target": "y", "header": "yes", "use": #"["id"]"#,
    "ignore": #"["row","day"]"#, "category": #"["school"]"#, "number": #"["time"]"#, "group": "patient", "scaling": "robust", "seed": "42",
    "validation": "0.3", "min_peers": "2",
    "per_peer": #"{"lena":{"batch_size":16}}"#, "max_norm_ratio": "4.5", "pool": "everyone", "from": "3f2a",
    "module": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "name": "first",
    "note": "one",
]

/// One that uses all that any strategy does.
private struct Every: Strategy {
    static let name = "every"
    static let summary = ""

    var settings: Set<String> { SessionSetting.ofStrategies }

    func deal(trainingRows: Int, round: Int, peers: [SessionPeer]) -> [[RowRange]] { [] }

    func outcome(of answers: [StrategyAnswer], _ settings: SessionSettings) -> RoundOutcome { .average([]) }
}

@Suite struct SessionSettingTests {
    private func settings(_ fields: [String: String]) throws -> SessionSettings {
        try SettingsForm.settings(fields, strategies: [Every(), FedAvg()])
    }

    @Test func `each setting goes through the form and back, and changes what is asked for`() throws {
        #expect(Set(others.keys) == Set(SessionSetting.all.map(\.name)))
        for setting in SessionSetting.all {
            let text = try #require(others[setting.name])
            var fields = [setting.name: text]
            // What it does not go without.
            if setting.name == "momentum" { fields["optimizer"] = "sgd" }
            if setting.name == "nesterov" { fields.merge(["optimizer": "sgd", "momentum": "0.9"]) { $1 } }
            if setting.name == "min_peers" { fields["peers"] = "2" }
            if setting.name != "seed" { fields["seed"] = "1" }
            if SessionSetting.ofStrategies.contains(setting.name) { fields["strategy"] = "every" }
            let made = try settings(fields)
            #expect(try setting.text(of: made) == text, "\(setting.name)")
            var without = fields
            without[setting.name] = nil
            if setting.name == "seed" { without["seed"] = "1" }
            if setting.name == "optimizer" { #expect(made.optimizer.name == .sgd) }
            #expect(try settings(without) != made, "\(setting.name) changes nothing")
        }
    }

    @Test func `all of them go from a form to a client's fields, to JSON, and back`() throws {
        var fields = others
        // Local steps take the place of epochs.
        for absent in ["from", "hidden", "activation", "dropout", "local_steps"] { fields[absent] = nil }
        let made = try settings(fields)
        let sent = try SessionSetting.all.compactMap { setting in try setting.text(of: made).map { (setting.name, $0) } }
        // A module has its own layers.
        let sentFields = Dictionary(uniqueKeysWithValues: sent.filter { !SessionSetting.ofSimpleDNN.contains($0.0) })
        #expect(sentFields == fields)
        #expect(try settings(sentFields) == made)
        #expect(try CohortJSON.decode(SessionSettings.self, from: CohortJSON.encode(made)) == made)
    }

    /// What trains is what the form said.
    @Test func `what a step depends on is found in the engine's options`() throws {
        var fields = others
        for absent in ["from", "module", "per_peer", "class_weight", "min_peers", "local_steps"] { fields[absent] = nil }
        let settings = try settings(fields)
        let hyperparameters = settings.hyperparameters(peerId: "a", name: "a")
        var command = TrainCommand(
            work: WorkKey(sessionId: "s", generation: 0, round: 0), csvLink: "",
            table: TableLink(tableSha256: "ab"),
            start: StartingModel(
                model: ModelSpec(
                    inputs: 2, hidden: settings.hidden, outputs: 2, activation: settings.activation, dropout: settings.dropout,
                    task: .classification), modelSeed: 5),
            plan: WorkPlan(rows: [], epochs: hyperparameters.epochs),
            options: TrainingOptions(
                optimizer: settings.optimizer, batchSize: hyperparameters.batchSize, learningRate: hyperparameters.lr, dropoutSeed: 5))
        let recipe = WorkRecipe(proximalMu: settings.proximalMu)
        command.plan.apply(settings, recipe: recipe, round: 0)
        command.options.apply(settings, recipe: recipe, classWeights: nil)
        let received = try CohortJSON.decode(TrainCommand.self, from: CohortJSON.encode(command))
        let options = received.options
        #expect(
            options
                == TrainingOptions(
                    optimizer: OptimizerSpec(
                        name: .sgd, momentum: 0.8, nesterov: true, weightDecay: 0.05, beta1: 0.7, beta2: 0.95, epsilon: 1e-6,
                        gradientClip: 1.5),
                    batchSize: 48, learningRate: 0.02, labelSmoothing: 0.1, loss: .huber, proximalMu: 0.3, dropoutSeed: 5))
        #expect(received.start.model.activation == .tanh && received.start.model.dropout == 0.25 && received.start.model.hidden == [9, 8])
        #expect(received.plan.optimizerState == .keep)
        #expect(received.plan.epochs == 4 && received.plan.lrSchedule?.name == .cosine)
    }

    /// The values as the API answers them, and as the model card shows them.
    @Test func `each setting is in the API's schema and on the model card`() throws {
        for setting in SessionSetting.all {
            var fields = ["strategy": "every", "peers": "3", "optimizer": "sgd", "momentum": "0.7"]
            let text: String = try #require(others[setting.name])
            fields[setting.name] = text
            if setting.name == "optimizer" { fields["momentum"] = nil }
            let made = try settings(fields)
            let written = Set(try CohortJSON.decode([String: JSONValue].self, from: CohortJSON.encode(made)).keys)
            guard case .object(let properties)? = Schema.all["Settings"]?.json["properties"] else {
                Issue.record("the schema Settings has no properties")
                return
            }
            #expect(
                written.subtracting(properties.keys).isEmpty, "\(setting.name): the schema lacks \(written.subtracting(properties.keys))")
            guard !["name", "note"].contains(setting.name) else { continue }
            var session = Session(
                id: "s", ownerId: "o", createdAt: Date(), settings: made, peers: [], upload: nil, filename: "x.csv")
            session.status = .completed
            let card = ModelCard.settings(session)
            #expect(card.contains { $0[0] == setting.label }, "\(setting.name) is not on the card")
        }
    }

    @Test(arguments: [
        (["gradient_clip": "0"], "gradient_clip is 0.0; it must be above 0"),
        (["gradient_clip": "x"], "gradient_clip is 'x'; it must be a number"),
        (["label_smoothing": "1"], "label_smoothing is 1.0; it must be from 0 to below 1"),
        (["label_smoothing": "nan"], "label_smoothing is nan; it must be from 0 to below 1"),
        (["beta1": "1"], "beta1 is 1.0; it must be from 0 to below 1"), (["epsilon": "0"], "epsilon is 0.0; it must be above 0"),
        (["nesterov": "yes"], "nesterov is 'yes'; it must be true or false"), (["seed": "-1"], "seed is '-1'"),
        (["batch_sise": "3"], "did you mean 'batch_size'?"),
        (["per_peer": #"{"a": {"lr": 0}}"#], "per_peer.a.lr is 0.0; it must be a number above 0, at most 100"),
        (
            ["per_peer": #"{"a": {"lrr": 1}}"#],
            "there is no field 'per_peer.a.lrr'; the fields are batch_size, epochs, lr; did you mean 'lr'?"
        ),
    ]) func `invalid values are reported`(fields: [String: String], sentence: String) {
        let error = #expect(throws: CohortError.self) { try settings(fields) }
        #expect(error?.code == .invalid && error?.message.contains(sentence) == true, "\(error?.message ?? "")")
    }

    @Test func `an optimizer brings its own weight decay unless one is given`() throws {
        #expect(try settings(["optimizer": "adamw"]).optimizer.weightDecay == 0.01)
        #expect(try settings(["optimizer": "adamw", "weight_decay": "0"]).optimizer.weightDecay == 0)
        #expect(try settings([:]).optimizer == OptimizerSpec())
        #expect(try settings(["nesterov": "False"]).optimizer == OptimizerSpec())
    }

    @Test func `smoothing of a number to predict is refused`() throws {
        var schema = TableSchema(
            hasHeader: true, delimiter: ",", columns: [], target: "price", task: .regression, classes: [], validation: 0, splitSeed: 0,
            trainingRows: 1, validationRows: 0, droppedRows: 0, classCounts: nil)
        let made = try settings(["label_smoothing": "0.1"])
        let error = try #require(throws: CohortError.self) { try made.check(for: schema) }
        #expect(error.message.contains("label_smoothing is for classification; 'price' is a number"))
        schema.task = .classification
        try made.check(for: schema)
    }
}

@Suite struct SettingsInDocs {
    /// docs/training.md is written from the table: what this prints belongs there.
    @Test func `docs/training.md has each setting as the table does`() throws {
        let folder = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let text = try String(contentsOf: URL(filePath: "\(folder)/docs/training.md"), encoding: .utf8)
        let rows = SessionSetting.all.map { setting in
            // The command takes the file itself.
            let option = setting.name == "module" ? "model" : setting.name.replacing("_", with: "-")
            return
                "| `\(setting.name)` | `--\(option)` | \(setting.standard.map { "`\($0)`" } ?? "") | \(setting.help.replacing("|", with: "\\|")) |"
        }
        let missing = rows.filter { !text.contains($0 + "\n") }
        #expect(missing.isEmpty, "docs/training.md lacks:\n\(missing.joined(separator: "\n"))")
    }
}
