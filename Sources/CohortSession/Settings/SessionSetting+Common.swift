import CohortCore

/// Settings that every session chooses.
extension SessionSetting {
    static let common: [SessionSetting] = [
        whole("peers", \.peers, in: 1...10_000, help: "How many peers."),
        text("name", \.name, most: 80, help: "What to call the session."),
        text("note", \.note, most: 2_000, help: "What to remember of it."),
        SessionSetting(
            name: "strategy", kind: .text(most: nil),
            help: "How peers' work becomes one model.",
            standard: SessionSettings().strategy, read: { $0.strategy }, write: { $0.strategy = $1 }),
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
        whole(
            "early_stopping", \.earlyStopping, from: 1,
            help: "Stop after so many rounds (independent: epochs) without a better validation loss; absent: never."),
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
        SessionSetting(
            name: "module", kind: .text(most: 64),
            help: "A module of your own in place of a SimpleDNN: the sha256 of its file, which POST /modules takes.", standard: nil,
            read: { $0.module }, write: { $0.module = $1.lowercased() },
            check: { settings in
                guard let module = settings.module else { return }
                guard ModuleSpec.isHash(module) else {
                    throw problem("module", value: "'\(module.printable(max: 70))'", expected: "a SHA-256: 64 hexadecimal digits")
                }
            }),
        text("from", \.from, help: "A session of yours, by its id: training goes on from its model."),
        SessionSetting(
            name: "per_peer", kind: .text(most: nil), help: "Overrides as JSON: peer name or id → batch_size, epochs, lr.", standard: nil,
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
        SessionSetting(
            name: "seed", kind: .whole(0...9_007_199_254_740_991), help: "Seed for all randomness. Default: chosen at random and reported.",
            standard: nil, read: { "\($0.seed)" },
            write: { settings, text in
                guard let value = UInt64(text), value < 1 << 53 else {
                    throw misread("seed", text: text, expected: "a whole number from 0 to 9007199254740991")
                }
                settings.seed = value
            }),
    ]
}
