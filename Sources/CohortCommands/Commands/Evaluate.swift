import ArgumentParser
import CohortCore
import CohortTraining

struct Evaluate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a model file on a CSV, offline.")

    @Argument(help: "The model file (.safetensors).")
    var model: String
    @Argument(help: "The CSV, with the target column.")
    var csv: String
    @Flag(name: .customLong("allow-missing"), help: "Count columns that are not in the CSV as missing values.")
    var allowMissing = false
    @Flag(help: "One JSON object.")
    var json = false

    func run() async throws {
        let predictor = try await Predictor(at: model)
        let data = try TrainingData(file: csv, isPredicted: true)
        defer { withExtendedLifetime(data) {} }
        let (evaluation, notes) = try predictor.evaluate(csvAt: data.path, options: .init(allowMissing: allowMissing))
        for note in notes { Terminal.printNote("note: \(note)") }
        try json ? Terminal.print(json: evaluation) : Terminal.printLine(EvaluationText.make(evaluation))
    }
}
