import ArgumentParser
import CohortCore
import CohortTraining

struct Predict: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Predict the rows of a CSV with a model file, offline.")

    @Argument(help: "The model file (.safetensors).")
    var model: String
    @Argument(help: "The CSV; its target column may be absent.")
    var csv: String
    @Flag(help: "One JSON object a row, with probabilities.")
    var json = false

    func run() async throws {
        let predictor = try Predictor(ModelFile.read(model))
        let classes = predictor.file.schema.classes
        // CSV out: the prediction first, then for classes each one's probability.
        if !json {
            Terminal.say(([predictor.file.schema.target] + classes.map { "p(\($0))" }).map(Self.field).joined(separator: ","))
        }
        try predictor.predict(csvAt: csv) { prediction, _ in
            if json {
                try Terminal.say(
                    json: API.Prediction(
                        predictions: [prediction.label.map { .text($0) } ?? .number(prediction.value ?? 0)],
                        probabilities: classes.isEmpty ? nil : [prediction.probabilities]))
            } else {
                let first = prediction.label ?? prediction.value.map { "\($0)" } ?? ""
                let rest = classes.map { Figure.decimal(prediction.probabilities[$0], digits: 4) }
                Terminal.say(([Self.field(first)] + rest).joined(separator: ","))
            }
            return true
        }
    }

    /// Quoted where RFC 4180 asks for it.
    private static func field(_ text: String) -> String {
        guard text.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return text }
        return "\"" + text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }
}

/// A few predictions beside what was right, for the demo.
enum Predictions {
    /// - Parameter limit: how many rows, spread over the file.
    static func table(model: String, csv: String, limit: Int) throws -> String {
        let predictor = try Predictor(ModelFile.read(model))
        let schema = predictor.file.schema
        let rows = schema.trainingRows + schema.validationRows + schema.droppedRows
        var table = TextTable(header: ["row", "predicted", schema.task == .classification ? "probability" : "", schema.target])
        var row = 0
        try predictor.predict(csvAt: csv) { prediction, target in
            defer { row += 1 }
            if row % max(1, rows / limit) == rows / limit / 2 {
                table.rows.append([
                    "\(row + 1)", prediction.label ?? Figure.decimal(prediction.value),
                    prediction.label.map { Figure.percent(prediction.probabilities[$0]) } ?? "", target ?? "-",
                ])
            }
            return table.rows.count < limit
        }
        return table.text
    }
}
