import ArgumentParser
import CohortCore

/// What a person says of a CSV's columns.
struct ColumnOptions: ParsableArguments {
    @Option(help: "The column to predict; else the last.")
    var target: String?
    @Option(help: "classification or regression; else told from the target column.")
    var task: String?
    @Option(help: "Whether the first line names the columns: yes, no or auto.")
    var header: String?
    @Option(help: "Take this column as a feature although it looks like an id; may be said again.")
    var use: [String] = []
    @Option(help: "Leave this column out; may be said again.")
    var ignore: [String] = []
    @Option(help: "Take this column's numbers as codes: each value is a category; may be said again.")
    var category: [String] = []
    @Option(help: "Take this column as a quantity although its values are written as codes (007); may be said again.")
    var number: [String] = []
    @Option(help: "Keep rows with one value of this column (a patient, a household) on one side of the split.")
    var group: String?
    @Option(help: "How numbers are scaled: auto, standard, range, robust or none.")
    var scaling = Scaling.auto.rawValue

    /// - Throws: ``CohortError`` `invalid`, naming the option.
    func options() throws -> DataOptions {
        guard header.map({ ["yes", "no", "auto"].contains($0) }) ?? true else {
            throw CohortError(.invalid, "--header is '\(header ?? "")'; it must be yes, no or auto")
        }
        return try DataOptions(
            header: header.flatMap { $0 == "auto" ? nil : $0 == "yes" }, use: use, ignore: ignore, category: category, number: number,
            group: group, scaling: choice("scaling", scaling)
        ).validated(target: target)
    }

    func learningTask() throws -> LearningTask? { try task.map { try choice("task", $0) } }
}

/// - Throws: ``CohortError`` `invalid` for a text that is none of the choices.
func choice<Value: RawRepresentable & CaseIterable>(_ name: String, _ text: String) throws -> Value where Value.RawValue == String {
    guard let value = Value(rawValue: text) else {
        let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
        throw CohortError(.invalid, "--\(name) is '\(text)'; it must be one of \(known)")
    }
    return value
}
