import ArgumentParser
import CohortCore
import CohortSession
import Testing

@testable import CohortCommands

/// The options of `cohort train` are the settings' table.
@Suite struct OptionTests {
    private static let values = [
        "strategy": "fedprox", "lr_schedule": "cosine", "optimizer": "sgd", "optimizer_state": "keep", "weighting": "steps",
        "update_compression": "int8", "loss": "huber", "class_weight": "balanced", "hidden": "9,8", "activation": "tanh",
        "task": "regression",
        "header": "auto", "scaling": "robust", "pool": "everyone", "per_peer": #"{"a":{"lr":0.5}}"#,
    ]

    @Test(arguments: SessionSetting.all.map(\.name)) func `each setting is an option of train`(name: String) throws {
        let setting = try #require(SessionSetting.named(name))
        // Options of the command itself: a session, a file, and a number or all.
        if name == "peers" { #expect(try SessionSettings.Options.parse(["--peers", "3"]).settings().peers == 3) }
        guard !["from", "module", "peers"].contains(name) else { return }
        let option = "--" + name.replacing("_", with: "-")
        let text = Self.values[name] ?? (setting.kind == .flag ? "true" : setting.standard == "0.0" ? "0.5" : "2")
        let options = try SessionSettings.Options.parse(setting.kind == .flag ? [option] : [option, text])
        let plain = try SessionSettings.Options.parse([])
        #expect(options.given[name] != plain.given[name], "\(option) is read, and not given to the setting")
        var settings = SessionSettings()
        try options.apply(to: &settings)
        var expected = SessionSettings()
        try setting.set(text, in: &expected)
        #expect(try setting.text(of: settings) == setting.text(of: expected))
    }

    @Test func `help has the groups of the table`() {
        let help = SessionSettings.Options.helpMessage(columns: 120)
        for title in ["TRAINING", "DATA", "OPTIMIZER", "STRATEGY", "SAFETY"] {
            #expect(help.contains("\(title):") || help.contains("\(title) OPTIONS:"), "\(title): \(help.prefix(2_000))")
        }
    }

    @Test func `a wrong value names its option`() {
        for (arguments, sentence) in [
            (["--header", "maybe"], "--header is 'maybe'; it must be yes, no or auto"),
            (["--task", "guess"], "--task is 'guess'; it must be one of classification, regression"),
            (["--lr", "x"], "--lr is 'x'; it must be a number"), (["--batch-size", "0"], "--batch-size is 0"),
        ] {
            let error = #expect(throws: CohortError.self) { try SessionSettings.Options.parse(arguments).settings() }
            #expect(error?.message.contains(sentence) == true, "\(error?.message ?? "")")
        }
    }
}
