import ArgumentParser
import CohortCore
import CohortSession
import CohortStrategies

/// Options whose names, help and values are those of ``SessionSetting``: a property `batchSize` is the option `--batch-size` and sets `batch_size`.
protocol SettingOptions: ParsableArguments {}

extension SettingOptions {
    /// The given values as text, by the setting's name.
    var given: [String: String] {
        Mirror(reflecting: self).children.reduce(into: [:]) { given, child in
            if let group = child.value as? any SettingOptionGroup {
                given.merge(group.options.given) { $1 }
                return
            }
            guard let label = child.label else { return }
            let value =
                switch child.value {
                case let option as Option<String?>: option.wrappedValue
                case let flag as Flag<Bool>: flag.wrappedValue ? "true" : nil
                case let names as Option<[String]>: names.wrappedValue.isEmpty ? nil : Self.list(names.wrappedValue)
                default: String?.none
                }
            // _batchSize → batch_size
            let name = label.drop { $0 == "_" }.reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : "\($1)" }
            if let value { given[name] = value }
        }
    }

    private static func list(_ names: [String]) -> String? {
        (try? CohortJSON.encode(names)).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Applies the given values.
    /// - Throws: ``CohortError`` `invalid`, naming the option.
    func apply(to settings: inout SessionSettings) throws {
        let given = given
        do {
            for setting in SessionSetting.all {
                if let text = given[setting.name] { try setting.set(text, in: &settings) }
            }
        } catch let error as CohortError {
            throw error.namingOption
        }
    }
}

private protocol SettingOptionGroup { var options: any SettingOptions { get } }

extension OptionGroup: SettingOptionGroup where Value: SettingOptions {
    fileprivate var options: any SettingOptions { wrappedValue }
}

extension CohortError {
    /// Names the option where the sentence begins with a setting's name.
    fileprivate var namingOption: CohortError {
        guard let setting = SessionSetting.all.first(where: { message.hasPrefix("\($0.name) ") }) else { return self }
        return CohortError(code, "--\(setting.name.replacing("_", with: "-"))" + message.dropFirst(setting.name.count))
    }
}

extension SessionSettings {
    /// The options of `cohort train` that are settings of the session.
    struct Options: SettingOptions {
        @Option(help: "How many peers, or all that are free.")
        var peers = "1"
        @OptionGroup(title: "Training") var common: CommonSettings
        @OptionGroup(title: "Data") var columns: ColumnOptions
        @OptionGroup(title: "Data") var data: DataSettings
        @OptionGroup(title: "Optimizer") var optimizer: OptimizerSettings
        @OptionGroup(title: "Strategy") var strategy: StrategySettings
        @OptionGroup(title: "Safety") var safety: SafetySettings

        /// - Throws: ``CohortError`` `invalid` for a setting that a session which goes on from a model takes from that model.
        func checkGoesOn() throws {
            let given = given
            if let option = SessionSetting.all.first(where: { $0.isOfModel && given[$0.name] != nil })?.name {
                throw CohortError(.invalid, "--\(option) does not go with --from: the model that training goes on from has its own")
            }
        }

        /// - Throws: ``CohortError`` `invalid` for a setting of a SimpleDNN, which a module does not have.
        func checkHasOwnLayers() throws {
            let given = given
            if let option = SessionSetting.ofSimpleDNN.sorted().first(where: { given[$0] != nil }) {
                throw CohortError(.invalid, "--\(option) does not go with --model: a module of your own has its own layers")
            }
        }

        /// All free peers are to be used.
        var takesAll: Bool { peers == "all" }

        /// - Throws: ``CohortError`` `invalid`, naming the option.
        func settings() throws -> SessionSettings {
            guard let peers = takesAll ? 1 : Int(peers) else {
                throw CohortError(.invalid, "--peers is '\(peers.printable(max: 40))'; it must be a number, or all")
            }
            if common.rounds != nil, let strategy = CohortCommand.strategies.all.first(where: { $0.name == common.strategy }),
                strategy.trainsOwnModels
            {
                throw CohortError(.invalid, "--rounds does not go with \(strategy.name): each peer trains its --epochs once")
            }
            var settings = SessionSettings.defaults(peers: peers, seed: UInt64.random(in: 0...UInt64(UInt32.max)))
            try apply(to: &settings)
            do { try settings.check() } catch let error as CohortError { throw error.namingOption }
            return settings
        }
    }

    struct CommonSettings: SettingOptions {
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
        @Option(help: .setting("early_stopping"))
        var earlyStopping: String?
        @Option(help: .setting("hidden"))
        var hidden: String?
        @Option(help: .setting("activation"))
        var activation: String?
        @Option(help: .setting("dropout"))
        var dropout: String?
        @Option(help: .setting("per_peer"))
        var perPeer: String?
        @Option(help: .setting("seed"))
        var seed: String?
    }

    struct DataSettings: SettingOptions {
        @Option(help: .setting("class_weight"))
        var classWeight: String?
        @Option(help: .setting("validation"))
        var validation: String?
    }

    struct OptimizerSettings: SettingOptions {
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
        @Option(help: .setting("gradient_clip"))
        var gradientClip: String?
        @Option(help: .setting("optimizer_state"))
        var optimizerState: String?
        @Option(help: .setting("loss"))
        var loss: String?
        @Option(help: .setting("label_smoothing"))
        var labelSmoothing: String?
    }

    struct StrategySettings: SettingOptions {
        @Option(help: .setting("proximal_mu"))
        var proximalMu: String?
        @Option(help: .setting("weighting"))
        var weighting: String?
        @Option(help: .setting("update_compression"))
        var updateCompression: String?
        @Option(help: .setting("server_lr"))
        var serverLr: String?
        @Option(help: .setting("server_momentum"))
        var serverMomentum: String?
        @Option(help: .setting("server_tau"))
        var serverTau: String?
        @Option(help: .setting("buffer_size"))
        var bufferSize: String?
        @Option(help: .setting("malicious_peers"))
        var maliciousPeers: String?
        @Flag(help: .setting("nearest_neighbor_mixing"))
        var nearestNeighborMixing = false
    }

    struct SafetySettings: SettingOptions {
        @Option(help: .setting("pool"))
        var pool: String?
        @Option(help: .setting("min_peers"))
        var minPeers: String?
        @Option(help: .setting("max_norm_ratio"))
        var maxNormRatio: String?
        @Flag(help: .setting("keep_updates"))
        var keepUpdates = false
    }
}

extension ArgumentHelp {
    /// The help of ``SessionSetting``, with its default.
    static func setting(_ name: String, suffix: String = "") -> ArgumentHelp {
        guard let setting = SessionSetting.named(name) else { return ArgumentHelp("") }
        let isStated = setting.kind == .flag || setting.standard == nil || setting.standard == "0.0"
        let standard = isStated ? "" : " (default: \(setting.standard ?? ""))"
        let valueName =
            switch setting.kind {
            case .whole, .number: "n"
            case .choice: "choice"
            case .text, .flag: "text"
            }
        let names = name == "strategy" ? " One of \(CohortCommand.strategies.names.joined(separator: ", ")): see docs/strategies.md." : ""
        return ArgumentHelp("\(setting.help)\(names)\(suffix)\(standard)", valueName: valueName)
    }
}
