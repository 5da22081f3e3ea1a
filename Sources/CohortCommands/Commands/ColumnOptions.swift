import ArgumentParser
import CohortSession

/// The options for a CSV's columns.
struct ColumnOptions: SettingOptions {
    @Option(help: .setting("target"))
    var target: String?
    @Option(help: .setting("task"))
    var task: String?
    @Option(help: .setting("header"))
    var header: String?
    @Option(help: .setting("use", suffix: Self.repeated))
    var use: [String] = []
    @Option(help: .setting("ignore", suffix: Self.repeated))
    var ignore: [String] = []
    @Option(help: .setting("category", suffix: Self.repeated))
    var category: [String] = []
    @Option(help: .setting("number", suffix: Self.repeated))
    var number: [String] = []
    @Option(help: .setting("group"))
    var group: String?
    @Option(help: .setting("scaling"))
    var scaling: String?

    private static let repeated = " May be repeated."
}
