import CohortCore
import CohortSession
import FoundationEssentials

/// A form's fields as a session's settings: those of ``SessionSetting``, and what comes with a file.
enum SettingsForm {
    static let fields = ["file"] + (SessionSetting.all.map(\.name) + beside.keys).sorted()

    /// The form's schema in the API description.
    static let schema = Schema.record(
        [:],
        optional: Dictionary(uniqueKeysWithValues: SessionSetting.all.map { ($0.name, Schema($0)) }).merging(beside) { $1 }
            .merging(["file": Schema.binary.about("The CSV, after the other fields.")]) { $1 }
    ).closed

    private static let beside: [String: Schema] = [
        "sha256": .text.about("In place of the file: that of one of your earlier sessions, by its SHA-256."),
        "filename": .text.about("With sha256."),
    ]

    /// - Throws: ``CohortError`` `invalid`, naming the field, its value and what would be right.
    static func settings(_ fields: [String: String], strategies: [any Strategy]) throws -> SessionSettings {
        if let unknown = fields.keys.sorted().first(where: { !self.fields.contains($0) }) {
            let hint = Spelling.nearest(to: unknown, in: self.fields).map { "; did you mean '\($0)'?" } ?? ""
            throw CohortError(
                .invalid, "there is no field '\(unknown.prefix(60))'; the fields are \(self.fields.joined(separator: ", "))\(hint)")
        }
        // An empty field is one that was left out: browsers send those.
        let given = fields.mapValues(\.trimmed).filter { !$0.value.isEmpty }
        if given["from"] != nil, let field = SessionSetting.all.first(where: { $0.isOfModel && given[$0.name] != nil }) {
            throw CohortError(.invalid, "\(field.name) does not go with from: the model that training goes on from has its own")
        }
        if given["module"] != nil, let field = SessionSetting.ofSimpleDNN.sorted().first(where: { given[$0] != nil }) {
            throw CohortError(.invalid, "\(field) does not go with module: a module of your own has its own layers")
        }
        var settings = SessionSettings.defaults(seed: UInt64.random(in: 0...UInt64(UInt32.max)))
        for setting in SessionSetting.all {
            if let text = given[setting.name] { try setting.set(text, in: &settings) }
        }
        guard let strategy = strategies.first(where: { $0.name == settings.strategy }) else {
            throw CohortError(
                .invalid,
                "strategy is '\(settings.strategy.printable(max: 60))'; it must be one of \(strategies.map(\.name).joined(separator: ", "))"
            )
        }
        try settings.check()
        try strategy.check(settings)
        return settings
    }
}

extension Schema {
    /// A form's field for a setting.
    init(_ setting: SessionSetting) {
        let schema: Schema
        var standard = setting.standard.map { JSONValue.text($0) }
        switch setting.kind {
        case .whole(let range):
            schema = .whole(range)
            standard = setting.standard.flatMap { Int($0) }.map { .whole($0) }
        case .number:
            schema = .number
            standard = setting.standard.flatMap { Double($0) }.map { .number($0) }
        case .flag:
            schema = .flag
            standard = setting.standard.flatMap { Bool($0) }.map { .flag($0) }
        case .choice(let values): schema = .one(of: values)
        case .text(let most): schema = most.map { .text(0...$0) } ?? .text
        }
        let described = schema.about(setting.help)
        self = standard.map { described.standard($0) } ?? described
    }
}
