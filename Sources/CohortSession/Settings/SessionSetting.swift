import CohortCore

/// A setting of a session in its text form: a field of the form of `POST /sessions/start`, an option of `cohort train`, an input of the page of
/// a new session. Its name, range, default and help are defined here once.
public struct SessionSetting: Sendable {
    public enum Kind: Hashable, Sendable {
        case whole(ClosedRange<Int>)
        case number
        case flag
        case choice([String])
        /// Text with a maximum number of characters, or without a limit.
        case text(most: Int?)
    }

    /// The sections of help and pages.
    public enum Group: String, Sendable, CaseIterable {
        case common, data, optimizer, strategy, safety
    }

    /// `batch_size`; the option is `--batch-size`.
    public let name: String
    public internal(set) var kind: Kind
    /// The section of help and pages.
    public private(set) var group = Group.common
    /// The help sentence of forms and commands.
    public let help: String
    /// The default as text; nil: none.
    public let standard: String?
    /// A model that training goes on from has its own.
    public let isOfModel: Bool

    /// nil: absent.
    let read: @Sendable (SessionSettings) throws -> String?
    let write: @Sendable (inout SessionSettings, String) throws -> Void
    var check: @Sendable (SessionSettings) throws -> Void

    /// The name for people: `Batch size`.
    public var label: String {
        let words = name == "lr" ? "learning rate" : name.replacing("_", with: " ").replacing("lr ", with: "learning rate ")
        return words.prefix(1).uppercased() + words.dropFirst()
    }

    /// - Parameter text: not empty.
    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    public func set(_ text: String, in settings: inout SessionSettings) throws { try write(&settings, text) }

    /// The value as text, as ``set(_:in:)`` takes it; nil: absent.
    public func text(of settings: SessionSettings) throws -> String? { try read(settings) }

    init(
        name: String, kind: Kind, help: String, standard: String?, isOfModel: Bool = false,
        read: @escaping @Sendable (SessionSettings) throws -> String?,
        write: @escaping @Sendable (inout SessionSettings, String) throws -> Void,
        check: @escaping @Sendable (SessionSettings) throws -> Void = { _ in }
    ) {
        self.name = name
        self.kind = kind
        self.help = help
        self.standard = standard
        self.isOfModel = isOfModel
        self.read = read
        self.write = write
        self.check = check
    }
}

extension SessionSetting {
    /// All settings, by group. A setting that replaces others, such as the optimizer, comes before those.
    public static let all: [SessionSetting] = Group.allCases.flatMap { group in
        let settings =
            switch group {
            case .common: common
            case .data: data
            case .optimizer: optimizer
            case .strategy: strategy
            case .safety: safety
            }
        return settings.map { setting in
            var setting = setting
            setting.group = group
            return setting
        }
    }

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    public static func named(_ name: String) -> SessionSetting? { byName[name] }

    /// The settings of a SimpleDNN, which custom modules do not have.
    public static let ofSimpleDNN: Set = ["hidden", "activation", "dropout"]

    /// The settings of single strategies: see ``Strategy/settings``.
    public static let ofStrategies: Set = [
        "server_lr", "server_momentum", "server_tau", "weighting", "malicious_peers", "nearest_neighbor_mixing", "buffer_size",
    ]
}
