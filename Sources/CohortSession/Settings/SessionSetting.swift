import CohortCore

/// A setting of a session as people write it: a field of the form of `POST /sessions/start`, an option of `cohort train`, an input of the page of
/// a new session. What it is called, what it may be and what it means stand here once.
public struct SessionSetting: Sendable {
    public enum Kind: Hashable, Sendable {
        case whole(ClosedRange<Int>)
        case number
        case flag
        case choice([String])
        /// Text with a maximum number of characters, or without a limit.
        case text(most: Int?)
    }

    /// `batch_size`; the option is `--batch-size`.
    public let name: String
    public private(set) var kind: Kind
    /// The help sentence of forms and commands.
    public let help: String
    /// The default as text; nil: none.
    public let standard: String?
    /// A model that training goes on from has its own.
    public let isOfModel: Bool

    /// nil: absent.
    let read: @Sendable (SessionSettings) throws -> String?
    let write: @Sendable (inout SessionSettings, String) throws -> Void
    private(set) var check: @Sendable (SessionSettings) throws -> Void

    /// - Parameter text: not empty.
    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    public func set(_ text: String, in settings: inout SessionSettings) throws { try write(&settings, text) }

    /// The value as text, as ``set(_:in:)`` takes it; nil: absent.
    public func text(of settings: SessionSettings) throws -> String? { try read(settings) }
}

// MARK: The kinds

extension SessionSetting {
    private typealias Path<Value> = any WritableKeyPath<SessionSettings, Value> & Sendable

    /// The allowed values of a number.
    private struct Range: Sendable {
        let right: String
        let holds: @Sendable (Double) -> Bool

        static let share = Range(right: "from 0 to below 1") { $0 >= 0 && $0 < 1 }
        static func above(_ least: Double, atMost most: Double = .infinity, right: String) -> Range {
            Range(right: right) { $0 > least && $0 <= most }
        }
    }

    private static func problem(_ name: String, value: Any, expected right: String) -> CohortError {
        CohortError(.invalid, "\(name) is \(value); it must be \(right)")
    }

    private static func misread(_ name: String, text: String, expected right: String) -> CohortError {
        problem(name, value: "'\(text.printable(max: 60))'", expected: right)
    }

    private static func flag(_ name: String, _ text: String) throws -> Bool {
        // Python writes True and False.
        guard let value = Bool(text.lowercased()) else { throw misread(name, text: text, expected: "true or false") }
        return value
    }

    private static func whole(_ name: String, _ path: Path<Int>, in range: ClosedRange<Int>, help: String) -> SessionSetting {
        let right = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return SessionSetting(
            name: name, kind: .whole(range), help: help, standard: "\(SessionSettings()[keyPath: path])", isOfModel: false,
            read: { "\($0[keyPath: path])" },
            write: { settings, text in
                guard let value = Int(text) else { throw misread(name, text: text, expected: "a whole number") }
                settings[keyPath: path] = value
            },
            check: { if !range.contains($0[keyPath: path]) { throw problem(name, value: $0[keyPath: path], expected: right) } })
    }

    /// - Parameter range: a peer of one batch has as many epochs as steps, and they have the same limits.
    private static func whole(_ name: String, _ path: Path<Int?>, in range: ClosedRange<Int>, help: String) -> SessionSetting {
        var setting = whole(name, path, from: range.lowerBound, help: help)
        setting.kind = .whole(range)
        setting.check = { settings in
            guard let value = settings[keyPath: path], !range.contains(value) else { return }
            throw problem(name, value: value, expected: "a whole number from \(range.lowerBound) to \(range.upperBound), or absent")
        }
        return setting
    }

    /// A number whose default is chosen when training starts.
    private static func chosen(_ name: String, _ path: Path<Int>, in range: ClosedRange<Int>, help: String) -> SessionSetting {
        let right = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return SessionSetting(
            name: name, kind: .whole(range), help: help, standard: nil, isOfModel: false,
            read: { $0.automatic?.contains(name) == true ? nil : "\($0[keyPath: path])" },
            write: { settings, text in
                guard let value = Int(text) else { throw misread(name, text: text, expected: "a whole number") }
                settings[keyPath: path] = value
                settings.automatic?.removeAll { $0 == name }
            },
            check: { if !range.contains($0[keyPath: path]) { throw problem(name, value: $0[keyPath: path], expected: right) } })
    }

    /// A number that may be absent.
    private static func whole(_ name: String, _ path: Path<Int?>, from least: Int, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .whole(least...Int(Int32.max)), help: help, standard: nil, isOfModel: false,
            read: { $0[keyPath: path].map { "\($0)" } },
            write: { settings, text in
                guard let value = Int(text) else { throw misread(name, text: text, expected: "a whole number") }
                settings[keyPath: path] = value
            },
            check: { settings in
                if let value = settings[keyPath: path], value < least {
                    throw problem(name, value: value, expected: "at least \(least), or absent")
                }
            })
    }

    /// - Parameter depends: the default follows from another setting.
    private static func number(
        _ name: String, _ path: Path<Double>, in range: Range, isOfModel: Bool = false, depends: Bool = false, help: String
    ) -> SessionSetting {
        SessionSetting(
            name: name, kind: .number, help: help, standard: depends ? nil : "\(SessionSettings()[keyPath: path])", isOfModel: isOfModel,
            read: { "\($0[keyPath: path])" },
            write: { settings, text in
                guard let value = Double(text) else { throw misread(name, text: text, expected: "a number") }
                settings[keyPath: path] = value
            },
            check: { settings in
                let value = settings[keyPath: path]
                guard value.isFinite, range.holds(value) else { throw problem(name, value: value, expected: range.right) }
            })
    }

    private static func number(_ name: String, _ path: Path<Double?>, in range: Range, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .number, help: help, standard: nil, isOfModel: false,
            read: { $0[keyPath: path].map { "\($0)" } },
            write: { settings, text in
                guard let value = Double(text) else { throw misread(name, text: text, expected: "a number") }
                settings[keyPath: path] = value
            },
            check: { settings in
                guard let value = settings[keyPath: path] else { return }
                guard value.isFinite, range.holds(value) else { throw problem(name, value: value, expected: "\(range.right), or absent") }
            })
    }

    private static func choice<Value: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, standard: Value?, isOfModel: Bool = false, help: String, read: @escaping @Sendable (SessionSettings) -> Value?,
        write: @escaping @Sendable (inout SessionSettings, Value) -> Void
    ) -> SessionSetting {
        let known = Value.allCases.map(\.rawValue)
        return SessionSetting(
            name: name, kind: .choice(known), help: help, standard: standard?.rawValue, isOfModel: isOfModel, read: { read($0)?.rawValue },
            write: { settings, text in
                guard let value = Value(rawValue: text) else {
                    throw misread(name, text: text, expected: "one of \(known.joined(separator: ", "))")
                }
                write(&settings, value)
            }, check: { _ in })
    }

    private static func text(_ name: String, _ path: Path<String?>, most: Int? = nil, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .text(most: most), help: help, standard: nil, isOfModel: false, read: { $0[keyPath: path] },
            write: { settings, text in settings[keyPath: path] = text },
            check: { settings in
                guard let most, let text = settings[keyPath: path] else { return }
                guard text.count <= most, !text.unicodeScalars.contains(where: { $0.value < 32 && $0 != "\n" }) else {
                    throw misread(name, text: text, expected: "text of at most \(most) characters")
                }
            })
    }

    /// Names of columns: one, or JSON of several.
    private static func columns(_ name: String, _ path: any WritableKeyPath<DataOptions, [String]> & Sendable, help: String)
        -> SessionSetting
    {
        SessionSetting(
            name: name, kind: .text(most: nil), help: help, standard: nil, isOfModel: true,
            read: { settings in
                guard let names = settings.data?[keyPath: path], !names.isEmpty else { return nil }
                return String(decoding: try CohortJSON.encode(names), as: UTF8.self)
            },
            write: { settings, text in
                var names = [text]
                if text.hasPrefix("[") {
                    // The sentence says what would be right; what JSON finds wrong says less.
                    guard let several = try? CohortJSON.decode([String].self, from: text.utf8) else {
                        throw CohortError(.invalid, "\(name) must be a column's name, or JSON such as [\"id\", \"row\"]")
                    }
                    names = several
                }
                settings.changeData { $0[keyPath: path] = names }
            }, check: { _ in })
    }
}

// MARK: The table

extension SessionSetting {
    /// Every one, in the order in which they are shown and set: a name of an optimizer before what it takes.
    public static let all: [SessionSetting] = training + model + columns + rest

    /// The settings of a SimpleDNN, which custom modules do not have.
    public static let ofSimpleDNN: Set = ["hidden", "activation", "dropout"]

    /// The settings of single strategies: see ``Strategy/settings``.
    public static let ofStrategies: Set = [
        "server_lr", "server_momentum", "server_tau", "weighting", "malicious_peers", "nearest_neighbor_mixing", "buffer_size",
    ]

    public static func named(_ name: String) -> SessionSetting? { all.first { $0.name == name } }

    private static let training: [SessionSetting] = [
        whole("peers", \.peers, in: 1...10_000, help: "How many peers."),
        SessionSetting(
            name: "strategy", kind: .text(most: nil),
            help: "How peers' work becomes one model.",
            standard: SessionSettings().strategy, isOfModel: false, read: { $0.strategy }, write: { $0.strategy = $1 }, check: { _ in }),
        chosen(
            "rounds", \.rounds, in: 1...100_000,
            help: "Rounds; default 10 to 100: more where each has few steps. independent has one."),
        chosen("epochs", \.epochs, in: 1...100_000, help: "Local epochs a round; default 1, with independent 10 to 100."),
        whole(
            "local_steps", \.localSteps, in: 1...100_000, help: "Optimizer steps a round on each peer, in place of epochs; absent: epochs."),
        chosen("batch_size", \.batchSize, in: 1...1_000_000, help: "Rows a step; default 32, or 8 or 16 where a peer has few rows."),
        number("lr", \.lr, in: .above(0, atMost: 100, right: "a number above 0, at most 100"), help: "Learning rate."),
        choice(
            "lr_schedule", standard: LearningRateSchedule.decay,
            help: "How the learning rate changes over the epochs: decay (over the last third), constant, linear or cosine.",
            read: { $0.lrSchedule }, write: { $0.lrSchedule = $1 }),
        choice(
            "optimizer", standard: OptimizerName.adam, help: "sgd, adam or adamw.", read: { $0.optimizer.name },
            // The optimizer's default weight decay, unless that is given as well.
            write: { $0.optimizer = OptimizerSpec(name: $1) }),
        number("momentum", \.optimizer.momentum, in: .share, help: "SGD: momentum."),
        SessionSetting(
            name: "nesterov", kind: .flag, help: "SGD: Nesterov's momentum.", standard: "false", isOfModel: false,
            read: { "\($0.optimizer.nesterov)" },
            write: { settings, text in settings.optimizer.nesterov = try flag("nesterov", text) },
            check: {
                if $0.optimizer.nesterov, $0.optimizer.momentum == 0 {
                    throw problem("nesterov", value: true, expected: "false without momentum")
                }
            }),
        number(
            "weight_decay", \.optimizer.weightDecay, in: Range(right: "0 or more") { $0 >= 0 }, depends: true,
            help: "Weight decay; the default of adamw is 0.01."),
        number("beta1", \.optimizer.beta1, in: .share, help: "Adam: how slowly the mean of gradients changes."),
        number("beta2", \.optimizer.beta2, in: .share, help: "Adam: how slowly the mean of their squares changes."),
        number("epsilon", \.optimizer.epsilon, in: .above(0, right: "above 0"), help: "Adam: added to the root of the mean of squares."),
        number(
            "gradient_clip", \.optimizer.gradientClip, in: .above(0, right: "above 0"),
            help: "Scale a step's gradient down to this norm (clip_grad_norm_); absent: never."),
        choice(
            "optimizer_state", standard: OptimizerMemory?.none,
            help:
                "The optimizer's moments when a round begins: average (like the weights; the default up to 2 million parameters), keep (each peer keeps its own; the first are averaged every third round, the second every sixth; the default above) or reset.",
            read: { $0.optimizerState }, write: { $0.optimizerState = $1 }),
        number(
            "proximal_mu", \.proximalMu, in: Range(right: "0 or more") { $0 >= 0 },
            help: "How strongly each step is pulled toward the round's weights (FedProx); absent: 0.01 with fedprox, else not."),
        number(
            "server_lr", \.serverLr, in: .above(0, atMost: 100, right: "above 0, at most 100"),
            help:
                "The server's learning rate; default: fedavgm 1 - server_momentum, diloco 0.7, fedadam, fedyogi and fedadagrad by the first round's change."
        ),
        number(
            "server_momentum", \.serverMomentum, in: .share,
            help: "The server's momentum; default: fedavgm, diloco, fedadam and fedyogi 0.9, fedadagrad 0."),
        number(
            "server_tau", \.serverTau, in: .above(0, right: "above 0"),
            help:
                "The number that fedadam, fedyogi and fedadagrad add to the root they divide by; default: a tenth of the first round's change."
        ),
        choice(
            "weighting", standard: Weighting?.none,
            help:
                "The weight of a peer's answer in the mean: samples (rows trained on; the default), uniform (all equal) or steps (of the optimizer).",
            read: { $0.weighting }, write: { $0.weighting = $1 }),
        choice(
            "update_compression", standard: UpdateCompression?.none,
            help:
                "The format of updates: none (the default), fp32 (as a change), fp16, bf16 (half the bytes) or int8 (a quarter); rounding errors are added to the next round.",
            read: { $0.updateCompression }, write: { $0.updateCompression = $1 }),
        SessionSetting(
            name: "keep_updates", kind: .flag,
            help: "Keep every round's updates, so that cohort replay can compute the model again, without a peer if need be.",
            standard: nil, isOfModel: false, read: { $0.keepUpdates.map { "\($0)" } },
            write: { settings, text in settings.keepUpdates = try flag("keep_updates", text) }, check: { _ in }),
        whole(
            "malicious_peers", \.maliciousPeers, from: 0,
            help: "The number of malicious peers that a robust strategy tolerates; default: the maximum, (peers - 3) / 2."),
        SessionSetting(
            name: "nearest_neighbor_mixing", kind: .flag,
            help: "Robust strategies: replace each update by the mean of its nearest ones first, for peers whose rows differ.",
            standard: nil, isOfModel: false, read: { $0.nearestNeighborMixing.map { "\($0)" } },
            write: { settings, text in settings.nearestNeighborMixing = try flag("nearest_neighbor_mixing", text) },
            check: { _ in }),
        whole(
            "buffer_size", \.bufferSize, from: 1,
            help:
                "Answers that close a round with fedbuff: the others count in the round in which they arrive; default: half of the peers."
        ),
        choice(
            "loss", standard: LossName?.none,
            help:
                "The loss to minimize: cross_entropy for classes; for numbers mse (the default), or l1 or huber, which outliers affect less. Reported metrics stay the same.",
            read: { $0.loss }, write: { $0.loss = $1 }),
        number(
            "label_smoothing", \.labelSmoothing, in: .share,
            help: "Classification: share of each target that is spread over all classes (CrossEntropyLoss); absent: none."),
        SessionSetting(
            name: "class_weight", kind: .text(most: nil),
            help: "Let rare classes count more: balanced, or JSON such as {\"yes\": 5, \"no\": 1}; else all rows count alike.",
            standard: nil, isOfModel: false,
            read: { settings in
                switch settings.classWeight {
                case nil: nil
                case .balanced: "balanced"
                case .byLabel(let weights): String(decoding: try CohortJSON.encode(weights), as: UTF8.self)
                }
            },
            write: { $0.classWeight = try ClassWeight.parse($1) },
            check: { settings in
                guard case .byLabel(let weights) = settings.classWeight else { return }
                for (label, weight) in weights where !(weight > 0 && weight <= 1e6) {
                    throw problem("class_weight.\(label.prefix(60))", value: weight, expected: "a number above 0, at most 1000000")
                }
            }),
        whole(
            "early_stopping", \.earlyStopping, from: 1,
            help: "Stop after so many rounds (independent: epochs) without a better validation loss; absent: never."),
    ]

    private static let model: [SessionSetting] = [
        SessionSetting(
            name: "hidden", kind: .text(most: nil), help: "Hidden layers' widths, such as 128,64; 'none' for a linear model.",
            standard: SessionSettings().hidden.map(String.init).joined(separator: ","), isOfModel: true,
            read: { $0.hidden.isEmpty ? "none" : $0.hidden.map(String.init).joined(separator: ",") },
            write: { settings, text in
                settings.hidden =
                    try text == "none"
                    ? []
                    : text.split(separator: ",", omittingEmptySubsequences: false).map { part in
                        guard let width = Int(part.filter { $0 != " " }) else {
                            throw misread("hidden", text: text, expected: "layer widths such as 128,64, or none")
                        }
                        return width
                    }
            },
            check: { settings in
                guard settings.hidden.count <= 32 else {
                    throw problem("hidden", value: "\(settings.hidden.count) layers", expected: "at most 32 layers")
                }
                for width in settings.hidden where !(1...65_536).contains(width) {
                    throw problem("hidden", value: width, expected: "layer widths from 1 to 65536, such as 128,64")
                }
                let weights = zip(settings.hidden, settings.hidden.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 }
                guard weights <= ModelSpec.maxParameters else {
                    throw problem(
                        "hidden", value: "a net of more than \(weights) parameters",
                        expected: "at most \(ModelSpec.maxParameters) parameters")
                }
            }),
        choice(
            "activation", standard: Activation.relu, isOfModel: true, help: "relu, tanh or sigmoid.", read: { $0.activation },
            write: { $0.activation = $1 }),
        number("dropout", \.dropout, in: .share, isOfModel: true, help: "Probability that a hidden unit is dropped while training."),
        choice(
            "task", standard: LearningTask?.none, isOfModel: true, help: "classification or regression; else told from the target column.",
            read: { $0.task }, write: { $0.task = $1 }),
    ]

    private static let columns: [SessionSetting] = [
        text("target", \.target, help: "The column to predict; else the last."),
        SessionSetting(
            name: "header", kind: .choice(["yes", "no", "auto"]),
            help: "Whether the first line names the columns: yes or no; else told by looking.", standard: "auto", isOfModel: false,
            read: { $0.data?.header.map { $0 ? "yes" : "no" } },
            write: { settings, text in
                guard ["yes", "no", "auto"].contains(text) else { throw misread("header", text: text, expected: "yes, no or auto") }
                if text != "auto" { settings.changeData { $0.header = text == "yes" } }
            }, check: { _ in }),
        columns("use", \.use, help: "Take this column as a feature although it looks like an id."),
        columns("ignore", \.ignore, help: "Leave this column out."),
        columns("category", \.category, help: "Take this column's numbers as codes: each value is a category."),
        columns("number", \.number, help: "Take this column as a quantity although its values are written as codes (007)."),
        SessionSetting(
            name: "group", kind: .text(most: nil),
            help: "Keep rows with one value of this column (a patient, a household) on one side of the split.", standard: nil,
            isOfModel: false, read: { $0.data?.group }, write: { settings, text in settings.changeData { $0.group = text } },
            check: { _ in }),
        choice(
            "scaling", standard: Scaling.auto, isOfModel: true, help: "How numbers are scaled: auto, standard, range, robust or none.",
            read: { $0.data?.scaling }, write: { settings, scaling in settings.changeData { $0.scaling = scaling } }),
    ]

    private static let rest: [SessionSetting] = [
        SessionSetting(
            name: "seed", kind: .whole(0...9_007_199_254_740_991), help: "Seed for all randomness. Default: chosen at random and reported.",
            standard: nil, isOfModel: false, read: { "\($0.seed)" },
            write: { settings, text in
                guard let value = UInt64(text), value < 1 << 53 else {
                    throw misread("seed", text: text, expected: "a whole number from 0 to 9007199254740991")
                }
                settings.seed = value
            }, check: { _ in }),
        number(
            "validation", \.validation, in: Range(right: "a share from 0 to 0.9") { $0 >= 0 && $0 <= 0.9 },
            help: "Share of rows held out for validation."),
        SessionSetting(
            name: "min_peers", kind: .whole(1...10_000), help: "Fewer living peers than this end the session.", standard: "1",
            isOfModel: false, read: { "\($0.minPeers)" },
            write: { settings, text in
                guard let value = Int(text) else { throw misread("min_peers", text: text, expected: "a whole number") }
                settings.minPeers = value
            },
            check: { settings in
                guard settings.minPeers >= 1, settings.minPeers <= settings.peers else {
                    throw problem(
                        "min_peers", value: settings.minPeers, expected: "from 1 to the number of peers asked for (\(settings.peers))")
                }
            }),
        SessionSetting(
            name: "per_peer", kind: .text(most: nil), help: "Overrides as JSON: peer name or id → batch_size, epochs, lr.", standard: nil,
            isOfModel: false,
            read: { $0.perPeer.isEmpty ? nil : String(decoding: try CohortJSON.encode($0.perPeer), as: UTF8.self) },
            write: { $0.perPeer = try SessionSettings.Override.parse($1) },
            check: { settings in
                for (peer, override) in settings.perPeer {
                    var own = settings
                    own.batchSize = override.batchSize ?? own.batchSize
                    own.epochs = override.epochs ?? own.epochs
                    own.lr = override.lr ?? own.lr
                    for name in SessionSettings.Override.fields {
                        do { try named(name)?.check(own) } catch let error as CohortError {
                            throw CohortError(error.code, "per_peer.\(peer.printable(max: 60)).\(error.message)")
                        }
                    }
                }
            }),
        number(
            "max_norm_ratio", \.maxNormRatio, in: .above(1, right: "above 1"),
            help: "Refuse updates whose norm is so many times the running median; absent: only warn, past three times."),
        choice(
            "pool", standard: Pool.mine,
            help: "Whose peers may take part, and so see the data: mine, or everyone (those started with --serve everyone).",
            read: { $0.pool }, write: { $0.pool = $1 }),
        SessionSetting(
            name: "module", kind: .text(most: 64),
            help: "A module of your own in place of a SimpleDNN: the sha256 of its file, which POST /modules takes.", standard: nil,
            isOfModel: false, read: { $0.module }, write: { $0.module = $1.lowercased() },
            check: { settings in
                guard let module = settings.module else { return }
                guard ModuleSpec.isHash(module) else {
                    throw problem("module", value: "'\(module.printable(max: 70))'", expected: "a SHA-256: 64 hexadecimal digits")
                }
            }),
        text("from", \.from, help: "A session of yours, by its id: training goes on from its model."),
        text("name", \.name, most: 80, help: "What to call the session."),
        text("note", \.note, most: 2_000, help: "What to remember of it."),
    ]
}

extension SessionSettings {
    fileprivate mutating func changeData(_ change: (inout DataOptions) -> Void) {
        var options = data ?? DataOptions()
        change(&options)
        data = options == DataOptions() ? nil : options
    }
}

extension SessionSettings.Override {
    static let fields = ["batch_size", "epochs", "lr"]

    /// Peer's name or id → what it overrides, from JSON.
    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    static func parse(_ text: String) throws -> [String: SessionSettings.Override] {
        let right = #"JSON such as {"lena-mbp": {"lr": 0.01, "batch_size": 16}}"#
        let named: [String: [String: JSONScalar]]
        do { named = try CohortJSON.decode([String: [String: JSONScalar]].self, from: text.utf8) } catch {
            throw CohortError(.invalid, "per_peer must be \(right); it is '\(text.printable(max: 60))'")
        }
        for (peer, given) in named {
            guard let unknown = given.keys.sorted().first(where: { !fields.contains($0) }) else { continue }
            let hint = Spelling.nearest(to: unknown, in: fields).map { "; did you mean '\($0)'?" } ?? ""
            throw CohortError(
                .invalid,
                "there is no field 'per_peer.\(peer.printable(max: 40)).\(unknown.printable(max: 40))'; the fields are \(fields.joined(separator: ", "))\(hint)"
            )
        }
        do { return try CohortJSON.decode([String: SessionSettings.Override].self, from: text.utf8) } catch let error as CohortError {
            throw CohortError(.invalid, "per_peer must be \(right): \(error.message)")
        }
    }
}
