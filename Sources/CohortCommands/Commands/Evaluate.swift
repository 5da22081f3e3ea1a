import ArgumentParser
import CohortClient
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

    /// Returns whether the model was made from the CSV.
    private func wasTrained(_ file: ModelFile) async throws -> Bool {
        struct Origin: Decodable { var csvSha256: String }
        // Another program's model may tell another origin, or none.
        guard let origin = file.origin, let known = try? CohortJSON.decode(Origin.self, from: origin.utf8) else { return false }
        return try await FileDigest(of: csv).sha256 == known.csvSha256
    }

    func run() async throws {
        let predictor = try await Predictor(at: model)
        let data = try TrainingData(file: csv, isPredicted: true)
        defer { withExtendedLifetime(data) {} }
        let (evaluation, notes) = try predictor.evaluate(csvAt: data.path, options: .init(allowMissing: allowMissing))
        for note in notes { Terminal.printNote("note: \(note)") }
        if try await wasTrained(predictor.file) {
            Terminal.printNote(
                "note: the model was trained on rows of this very file, so these numbers flatter it; `cohort results` has those of the held-out rows"
            )
        }
        try json ? Terminal.print(json: evaluation) : Terminal.printLine(EvaluationText.make(evaluation))
    }
}
