import ArgumentParser
import CohortCore
import FoundationEssentials
import Logging

/// Options of every command that reads settings.
struct CommonOptions: ParsableArguments {
    @Option(help: "A file of COHORT_NAME=value lines (COHORT_CONFIG).")
    var config: String?

    @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning, error, critical (COHORT_LOG_LEVEL).")
    var logLevel: String?

    /// Names that mean nothing are said.
    func settings() async throws -> Settings {
        let settings = try await Settings(file: config)
        for warning in settings.warnings { Terminal.complain(warning, prefix: "warning: ") }
        return settings
    }

    /// Bootstraps logging, once a process, to standard error: standard output is for results.
    /// - Parameter standard: the level unless one is chosen.
    func logger(_ settings: Settings, label: String, standard: Logger.Level = .info) throws -> Logger {
        let level = try settings.logLevel(flag: logLevel, standard: standard)
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        return Logger(label: label)
    }
}

/// Options of every command that talks to a server as a person.
struct ConnectionOptions: ParsableArguments {
    @Option(help: "The server's URL; else that of the last sign-in (COHORT_SERVER).")
    var server: String?

    @Flag(help: "Print JSON, for scripts: docs/cli.md has its shapes.")
    var json = false
}

extension SessionSettings {
    /// How its fields are asked for on a command line.
    struct Options: ParsableArguments {
        @Option(help: "How many peers, or all that are free.")
        var peers = "1"
        @Option(help: "What to call the session.")
        var name: String?
        @Option(help: "What to remember of it.")
        var note: String?
        @Option(help: "fedavg (shards, rounds, averaged) or independent (each peer its own model, the best wins).")
        var strategy = "fedavg"
        @Option(help: "Rounds (fedavg); 10 unless said.")
        var rounds: Int?
        @Option(help: "Local epochs a round.")
        var epochs = 1
        @Option(name: .customLong("batch-size"), help: "Rows a step.")
        var batchSize = 32
        @Option(help: "Learning rate.")
        var lr = 0.001
        @Option(
            name: .customLong("lr-schedule"),
            help: "How the learning rate changes over the epochs: decay (over the last third), constant, linear or cosine.")
        var lrSchedule = "decay"
        @Option(help: "sgd, adam or adamw.")
        var optimizer = "adam"
        @Option(help: "SGD: momentum.")
        var momentum = 0.0
        @Flag(help: "SGD: Nesterov's momentum.")
        var nesterov = false
        @Option(name: .customLong("weight-decay"), help: "Weight decay; adamw: 0.01 unless said.")
        var weightDecay: Double?
        @Option(help: "Hidden layers' widths, such as 128,64 (which is meant unless said); 'none' for a linear model.")
        var hidden: String?
        @Option(help: "relu (unless said), tanh or sigmoid.")
        var activation: String?
        @Option(help: "Probability that a hidden unit is dropped while training; 0 unless said.")
        var dropout: Double?
        @OptionGroup(title: "Columns") var columns: ColumnOptions
        @Option(help: "Randomness comes from this alone; else drawn and said.")
        var seed: UInt64?
        @Option(help: "Share of rows held out for validation.")
        var validation = 0.2
        @Option(name: .customLong("min-peers"), help: "Fewer living peers than this end the session.")
        var minPeers = 1
        @Option(
            name: .customLong("per-peer"),
            help: ArgumentHelp("Overrides as JSON: peer name or id → batch_size, epochs, lr.", valueName: "json"))
        var perPeer: String?
        @Option(
            name: .customLong("early-stopping"), help: "Stop after so many rounds (independent: epochs) without a better validation loss.")
        var earlyStopping: Int?
        @Option(name: .customLong("max-norm-ratio"), help: "Refuse updates whose norm is so many times the running median.")
        var maxNormRatio: Double?
        @Option(
            name: .customLong("class-weight"),
            help: "Let rare classes count more: balanced, or JSON such as {\"yes\": 5, \"no\": 1}; else all rows count alike.")
        var classWeight: String?
        @Option(help: "Whose peers may take part, and so see the data: mine, or everyone (those started with --serve everyone).")
        var pool = "mine"

        /// - Throws: ``CohortError`` `invalid` for what a session that goes on from a model has of it.
        func checkGoesOn() throws {
            let kept: [(String, Bool)] = [
                ("hidden", hidden != nil), ("activation", activation != nil), ("dropout", dropout != nil), ("task", columns.task != nil),
                ("use", !columns.use.isEmpty), ("ignore", !columns.ignore.isEmpty), ("scaling", columns.scaling != Scaling.auto.rawValue),
            ]
            if let (option, _) = kept.first(where: \.1) {
                throw CohortError(.invalid, "--\(option) does not go with --from: the model that training goes on from has its own")
            }
        }

        /// As many peers as are free.
        var takesAll: Bool { peers == "all" }

        func settings() throws -> SessionSettings {
            guard let peers = takesAll ? 1 : Int(peers) else {
                throw CohortError(.invalid, "--peers is '\(peers.printable(max: 40))'; it must be a number, or all")
            }
            let widths: [Int] =
                try hidden == "none"
                ? []
                : (hidden ?? "128,64").split(separator: ",", omittingEmptySubsequences: false).map { part -> Int in
                    guard let width = Int(part.filter { $0 != " " }) else {
                        throw CohortError(.invalid, "--hidden is '\(hidden ?? "")'; it must be layer widths such as 128,64")
                    }
                    return width
                }
            let overrides = try perPeer.map(Override.parse) ?? [:]
            let data = try columns.options()
            guard rounds == nil || strategy != "independent" else {
                throw CohortError(.invalid, "--rounds is for fedavg: with independent each peer trains its --epochs once")
            }
            var settings = try SessionSettings(
                peers: peers, strategy: strategy, rounds: rounds ?? 10, epochs: epochs, batchSize: batchSize, lr: lr,
                optimizer: OptimizerSpec(
                    name: choice("optimizer", optimizer), momentum: momentum, nesterov: nesterov, weightDecay: weightDecay),
                hidden: widths, activation: choice("activation", activation ?? "relu"), dropout: dropout ?? 0,
                task: columns.learningTask(), target: columns.target, seed: seed ?? UInt64.random(in: 0...UInt64(UInt32.max)),
                validation: validation, minPeers: minPeers, perPeer: overrides, earlyStopping: earlyStopping, maxNormRatio: maxNormRatio,
                classWeight: try classWeight.flatMap(ClassWeight.parse), pool: choice("pool", pool),
                data: data == DataOptions() ? nil : data, lrSchedule: choice("lr-schedule", lrSchedule))
            settings.name = name
            settings.note = note
            return try settings.validated()
        }
    }
}

extension SessionSettings.Override {
    private static let fields = ["batch_size", "epochs", "lr"]

    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    static func parse(_ text: String) throws -> [String: SessionSettings.Override] {
        do {
            for (peer, fields) in try CohortJSON.decode([String: [String: API.Value]].self, from: text.utf8) {
                guard let unknown = fields.keys.sorted().first(where: { !Self.fields.contains($0) }) else { continue }
                let hint = Spelling.nearest(to: unknown, in: Self.fields).map { ": did you mean '\($0)'?" } ?? ""
                throw CohortError(
                    .conflict,
                    "--per-peer: there is no setting '\(unknown.printable(max: 40))' of \(peer.printable(max: 40)); the settings are \(Self.fields.joined(separator: ", "))\(hint)"
                )
            }
            return try CohortJSON.decode([String: SessionSettings.Override].self, from: text.utf8)
        } catch let error as CohortError where error.code == .conflict {
            throw CohortError(.invalid, error.message)
        } catch {
            throw CohortError(
                .invalid,
                #"--per-peer is '\#(text.printable(max: 60))'; it must be JSON such as '{"lena-mbp": {"lr": 0.01, "batch_size": 16}}'"#)
        }
    }
}
