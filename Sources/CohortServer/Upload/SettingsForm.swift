import CohortCore
import FoundationEssentials

/// A form's fields as a session's settings.
enum SettingsForm {
    static let fields = ["file"] + schemas.keys.sorted()

    /// As the API's description has the form.
    static let schema = Schema.record(
        [:], optional: schemas.merging(["file": Schema.binary.about("The CSV, after the other fields.")]) { $1 }
    ).closed

    private static let schemas: [String: Schema] = [
        "peers": .whole(1...10_000).standard(.whole(1)), "strategy": .text.standard(.text("fedavg")),
        "rounds": .whole(1...100_000).standard(.whole(10)),
        "epochs": .whole(1...100_000).standard(.whole(1)).about("Local epochs a round."),
        "batch_size": .whole(1...1_000_000).standard(.whole(32)), "lr": .number.standard(.number(0.001)),
        "optimizer": .one(of: OptimizerName.self).standard(.text("adam")), "momentum": .number, "nesterov": .flag, "weight_decay": .number,
        "beta1": .number, "beta2": .number, "epsilon": .number, "hidden": .text.about("Widths such as 128,64, or none."),
        "activation": .one(of: Activation.self).standard(.text("relu")), "dropout": .number, "task": .one(of: LearningTask.self),
        "target": .text.about("The column to predict; else the last."), "seed": .whole(0...9_007_199_254_740_991),
        "validation": .number.standard(.number(0.2)).about("Share of rows held out."), "min_peers": .whole(1...10_000),
        "per_peer": .text.about("JSON: peer's name or id → batch_size, epochs, lr."), "early_stopping": .whole, "max_norm_ratio": .number,
        "class_weight": .text.about("balanced, none, or JSON such as {\"yes\": 5}."), "lr_schedule": .one(of: LearningRateSchedule.self),
        "pool": .one(of: Pool.self).standard(.text("mine")), "header": .one(of: ["yes", "no", "auto"]), "use": .text, "ignore": .text,
        "from": .text.about("A session of yours, by its id: training goes on from its model."),
        "group": .text, "scaling": .one(of: Scaling.self), "name": .text(0...80).about("What to call the session."),
        "note": .text(0...2_000).about("What to remember of it."),
        "sha256": .text.about("In place of the file: that of one of your earlier sessions, by its SHA-256."),
        "filename": .text.about("With sha256."),
    ]

    /// - Throws: ``CohortError`` `invalid`, naming the field, its value and what would be right.
    static func settings(_ fields: [String: String], strategies: [String]) throws -> SessionSettings {
        if let unknown = fields.keys.sorted().first(where: { !self.fields.contains($0) }) {
            let hint = Spelling.nearest(to: unknown, in: self.fields).map { "; did you mean '\($0)'?" } ?? ""
            throw CohortError(
                .invalid, "there is no field '\(unknown.prefix(60))'; the fields are \(self.fields.joined(separator: ", "))\(hint)")
        }
        // An empty field is one that was left out: browsers send those.
        let given = fields.mapValues(\.trimmed).filter { !$0.value.isEmpty }
        func wrong(_ name: String, _ right: String) -> CohortError {
            CohortError(.invalid, "\(name) is '\(given[name, default: ""].prefix(60))'; it must be \(right)")
        }
        func whole(_ name: String) throws -> Int? {
            guard let text = given[name] else { return nil }
            guard let value = Int(text) else { throw wrong(name, "a whole number") }
            return value
        }
        func number(_ name: String) throws -> Double? {
            guard let text = given[name] else { return nil }
            guard let value = Double(text) else { throw wrong(name, "a number") }
            return value
        }
        func choice<Value: RawRepresentable & CaseIterable>(_ name: String, _ standard: Value) throws -> Value
        where Value.RawValue == String {
            guard let text = given[name] else { return standard }
            guard let value = Value(rawValue: text) else {
                throw wrong(name, "one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            return value
        }
        var settings = SessionSettings(seed: UInt64.random(in: 0...UInt64(UInt32.max)))
        settings.peers = try whole("peers") ?? settings.peers
        settings.strategy = given["strategy"] ?? settings.strategy
        guard strategies.contains(settings.strategy) else { throw wrong("strategy", "one of \(strategies.joined(separator: ", "))") }
        settings.rounds = try whole("rounds") ?? settings.rounds
        settings.epochs = try whole("epochs") ?? settings.epochs
        settings.batchSize = try whole("batch_size") ?? settings.batchSize
        settings.lr = try number("lr") ?? settings.lr
        if given["lr_schedule"] != nil { settings.lrSchedule = try choice("lr_schedule", LearningRateSchedule.constant) }
        let nesterov = given["nesterov"]
        guard nesterov == nil || nesterov == "true" || nesterov == "false" else { throw wrong("nesterov", "true or false") }
        settings.optimizer = OptimizerSpec(
            name: try choice("optimizer", .adam), momentum: try number("momentum") ?? 0, nesterov: nesterov == "true",
            weightDecay: try number("weight_decay"), beta1: try number("beta1") ?? 0.9, beta2: try number("beta2") ?? 0.999,
            epsilon: try number("epsilon") ?? 1e-8)
        if let hidden = given["hidden"] {
            settings.hidden =
                try hidden == "none"
                ? []
                : hidden.split(separator: ",", omittingEmptySubsequences: false).map { part in
                    guard let width = Int(String(part).trimmed) else { throw wrong("hidden", "layer widths such as 128,64, or none") }
                    return width
                }
        }
        settings.activation = try choice("activation", .relu)
        settings.dropout = try number("dropout") ?? 0
        if given["task"] != nil { settings.task = try choice("task", LearningTask.classification) }
        settings.target = given["target"]
        if let seed = given["seed"] {
            guard let value = UInt64(seed), value < 1 << 53 else { throw wrong("seed", "a whole number from 0 to 9007199254740991") }
            settings.seed = value
        }
        settings.validation = try number("validation") ?? settings.validation
        settings.minPeers = try whole("min_peers") ?? settings.minPeers
        if let overrides = given["per_peer"] { settings.perPeer = try self.overrides(overrides) }
        if given["pool"] != nil { settings.pool = try choice("pool", Pool.mine) }
        if let from = given["from"] {
            settings.from = from
            let kept = ["hidden", "activation", "dropout", "task", "use", "ignore", "scaling"]
            if let field = kept.first(where: { given[$0] != nil }) {
                throw CohortError(.invalid, "\(field) does not go with from: the model that training goes on from has its own")
            }
        }
        settings.name = given["name"]
        settings.note = given["note"]
        settings.earlyStopping = try whole("early_stopping")
        settings.maxNormRatio = try number("max_norm_ratio")
        if let weight = given["class_weight"] { settings.classWeight = try ClassWeight.parse(weight) }
        settings.data = try data(given)
        return try settings.validated()
    }

    /// nil when nothing is said of the columns.
    private static func data(_ given: [String: String]) throws -> DataOptions? {
        var options = DataOptions()
        func columns(_ name: String) throws -> [String] {
            guard let text = given[name] else { return [] }
            guard text.hasPrefix("[") else { return [text] }
            guard let names = try? CohortJSON.decode([String].self, from: text.utf8) else {
                throw CohortError(.invalid, "\(name) must be a column's name, or JSON such as [\"id\", \"row\"]")
            }
            return names
        }
        options.use = try columns("use")
        options.ignore = try columns("ignore")
        options.group = given["group"]
        if let header = given["header"], header != "auto" {
            guard header == "yes" || header == "no" else {
                throw CohortError(.invalid, "header is '\(header.prefix(60))'; it must be yes, no or auto")
            }
            options.header = header == "yes"
        }
        if let text = given["scaling"] {
            guard let scaling = Scaling(rawValue: text) else {
                throw CohortError(
                    .invalid,
                    "scaling is '\(text.prefix(60))'; it must be one of \(Scaling.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            options.scaling = scaling
        }
        return options == DataOptions() ? nil : options
    }

    private static func overrides(_ text: String) throws -> [String: SessionSettings.Override] {
        do {
            for (peer, names) in try JSONDecoder().decode([String: FieldNames].self, from: Data(text.utf8)) {
                try names.check(known: ["batch_size", "epochs", "lr"], in: "per_peer.\(peer.prefix(60)).")
            }
            return try CohortJSON.decode([String: SessionSettings.Override].self, from: text.utf8)
        } catch let error as CohortError where error.message.hasPrefix("there is no field") {
            throw error
        } catch {
            throw CohortError(
                .invalid,
                "per_peer must be JSON such as {\"lena-mbp\": {\"batch_size\": 16}}: \((error as? CohortError)?.message ?? "this is not")")
        }
    }
}
