import ArgumentParser
import CohortCore
import CohortSession
import CohortStrategies
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
    /// How its fields are asked for on a command line: the options are named as ``SessionSetting`` names them, which says what each may be.
    struct Options: ParsableArguments {
        @Option(help: "How many peers, or all that are free.")
        var peers = "1"
        @Option(help: .setting("name"))
        var name: String?
        @Option(help: .setting("note"))
        var note: String?
        @Option(help: .setting("strategy"))
        var strategy: String?
        @Option(help: .setting("rounds"))
        var rounds: String?
        @Option(help: .setting("epochs"))
        var epochs: String?
        @Option(help: .setting("local_steps"))
        var localSteps: String?
        @Option(help: .setting("batch_size"))
        var batchSize: String?
        @Option(help: .setting("lr"))
        var lr: String?
        @Option(help: .setting("lr_schedule"))
        var lrSchedule: String?
        @Option(help: .setting("optimizer"))
        var optimizer: String?
        @Option(help: .setting("momentum"))
        var momentum: String?
        @Flag(help: .setting("nesterov"))
        var nesterov = false
        @Option(help: .setting("weight_decay"))
        var weightDecay: String?
        @Option(help: .setting("beta1"))
        var beta1: String?
        @Option(help: .setting("beta2"))
        var beta2: String?
        @Option(help: .setting("epsilon"))
        var epsilon: String?
        @Option(help: .setting("optimizer_state"))
        var optimizerState: String?
        @Option(help: .setting("proximal_mu"))
        var proximalMu: String?
        @Option(help: .setting("server_lr"))
        var serverLr: String?
        @Option(help: .setting("server_momentum"))
        var serverMomentum: String?
        @Option(help: .setting("server_tau"))
        var serverTau: String?
        @Option(help: .setting("weighting"))
        var weighting: String?
        @Option(help: .setting("update_compression"))
        var updateCompression: String?
        @Flag(help: .setting("keep_updates"))
        var keepUpdates = false
        @Option(help: .setting("malicious_peers"))
        var maliciousPeers: String?
        @Flag(help: .setting("nearest_neighbor_mixing"))
        var nearestNeighborMixing = false
        @Option(help: .setting("buffer_size"))
        var bufferSize: String?
        @Option(help: .setting("gradient_clip"))
        var gradientClip: String?
        @Option(help: .setting("loss"))
        var loss: String?
        @Option(help: .setting("label_smoothing"))
        var labelSmoothing: String?
        @Option(help: .setting("class_weight"))
        var classWeight: String?
        @Option(help: .setting("early_stopping"))
        var earlyStopping: String?
        @Option(help: .setting("hidden"))
        var hidden: String?
        @Option(help: .setting("activation"))
        var activation: String?
        @Option(help: .setting("dropout"))
        var dropout: String?
        @OptionGroup(title: "Columns") var columns: ColumnOptions
        @Option(help: .setting("seed"))
        var seed: String?
        @Option(help: .setting("validation"))
        var validation: String?
        @Option(help: .setting("min_peers"))
        var minPeers: String?
        @Option(help: .setting("per_peer"))
        var perPeer: String?
        @Option(help: .setting("max_norm_ratio"))
        var maxNormRatio: String?
        @Option(help: .setting("pool"))
        var pool: String?

        /// What was given, by the setting's name.
        private var given: [String: String] {
            Dictionary(
                uniqueKeysWithValues: Mirror(reflecting: self).children.compactMap { child in
                    guard let label = child.label else { return nil }
                    let value =
                        switch child.value {
                        case let option as Option<String?>: option.wrappedValue
                        case let flag as Flag<Bool>: flag.wrappedValue ? "true" : nil
                        default: String?.none
                        }
                    // _batchSize → batch_size
                    let name = label.drop { $0 == "_" }.reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : "\($1)" }
                    return value.map { (name, $0) }
                })
        }

        /// - Throws: ``CohortError`` `invalid` for what a session that goes on from a model has of it.
        func checkGoesOn() throws {
            let given = given
            let ofColumns: [(String, Bool)] = [
                ("task", columns.task != nil), ("use", !columns.use.isEmpty), ("ignore", !columns.ignore.isEmpty),
                ("category", !columns.category.isEmpty), ("number", !columns.number.isEmpty),
                ("scaling", columns.scaling != Scaling.auto.rawValue),
            ]
            let option =
                SessionSetting.all.first { $0.isOfModel && given[$0.name] != nil }?.name ?? ofColumns.first(where: \.1)?.0
            if let option {
                throw CohortError(.invalid, "--\(option) does not go with --from: the model that training goes on from has its own")
            }
        }

        /// - Throws: ``CohortError`` `invalid` for what a module of one's own has itself.
        func checkHasOwnLayers() throws {
            let given = given
            if let option = SessionSetting.ofSimpleDNN.sorted().first(where: { given[$0] != nil }) {
                throw CohortError(.invalid, "--\(option) does not go with --model: a module of your own has its own layers")
            }
        }

        /// As many peers as are free.
        var takesAll: Bool { peers == "all" }

        func settings() throws -> SessionSettings {
            guard let peers = takesAll ? 1 : Int(peers) else {
                throw CohortError(.invalid, "--peers is '\(peers.printable(max: 40))'; it must be a number, or all")
            }
            if rounds != nil, let strategy = StrategyCatalogue.all.first(where: { $0.name == strategy }), strategy.trainsOwnModels {
                throw CohortError(.invalid, "--rounds does not go with \(strategy.name): each peer trains its --epochs once")
            }
            var settings = SessionSettings.defaults(peers: peers, seed: UInt64.random(in: 0...UInt64(UInt32.max)))
            settings.target = columns.target
            settings.task = try columns.learningTask()
            let data = try columns.options()
            settings.data = data == DataOptions() ? nil : data
            let given = given
            do {
                for setting in SessionSetting.all {
                    if let text = given[setting.name] { try setting.set(text, in: &settings) }
                }
                return try settings.validated()
            } catch let error as CohortError {
                throw CohortError(error.code, Self.asOption(error.message))
            }
        }

        /// A sentence that begins with a setting's name begins with its option's.
        private static func asOption(_ message: String) -> String {
            guard let setting = SessionSetting.all.first(where: { message.hasPrefix("\($0.name) ") }) else { return message }
            return "--\(setting.name.replacing("_", with: "-"))" + message.dropFirst(setting.name.count)
        }
    }
}

extension ArgumentHelp {
    /// As ``SessionSetting`` describes it, with what holds unless it is said.
    static func setting(_ name: String) -> ArgumentHelp {
        guard let setting = SessionSetting.named(name) else { return ArgumentHelp("") }
        let isSaid = setting.kind == .flag || setting.standard == nil || setting.standard == "0.0"
        let standard = isSaid ? "" : " (default: \(setting.standard ?? ""))"
        let valueName =
            switch setting.kind {
            case .whole, .number: "n"
            case .choice: "choice"
            case .text, .flag: "text"
            }
        let names = name == "strategy" ? " One of \(StrategyCatalogue.names.joined(separator: ", ")): see docs/strategies.md." : ""
        return ArgumentHelp("\(setting.help)\(names)\(standard)", valueName: valueName)
    }
}
