import ArgumentParser
import CohortCore
import CohortTraining
import FoundationEssentials

struct Predict: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Predict a CSV's rows with a model file, offline.")

    @Argument(help: "The model file (.safetensors).")
    var model: String
    @Argument(help: "The CSV; its target column may be absent. Or tensors: a .safetensors with inputs, or a .npy.")
    var csv: String
    @Option(name: .shortAndLong, help: "Write the predictions to this file.")
    var output: String?
    @Flag(help: "Keep the CSV's columns, and add the predictions to them.")
    var keep = false
    @Flag(name: .customLong("allow-missing"), help: "Count columns that are not in the CSV as missing values.")
    var allowMissing = false
    @Flag(help: "One JSON object a row, with probabilities.")
    var json = false

    func run() async throws {
        let predictor = try await Predictor(at: model)
        let data = try TrainingData(file: csv, isPredicted: true)
        defer { withExtendedLifetime(data) {} }
        let writer = try OutputWriter(to: output)
        var number = 0
        let classes = predictor.file.schema.classes
        let lines = PredictionCSV(predictor.file.schema, keepsColumns: keep)
        do {
            try predictor.predict(
                csvAt: data.path, options: .init(allowMissing: allowMissing, keepsFields: keep && !json),
                begin: { columns, notes in
                    for note in notes { Terminal.printNote("note: \(note)") }
                    guard !json else { return }
                    try writer.line(lines.header(columns))
                },
                { prediction, row in
                    number += 1
                    try writer.line(json ? Self.object(prediction, number: number, classes: classes) : lines.line(prediction, row))
                    return true
                })
            try writer.finish()
        } catch {
            writer.discard()
            throw error
        }
    }

    private struct Row: Encodable {
        /// The number of the row, from 1.
        var row: Int
        var prediction: JSONScalar
        /// Probabilities by class.
        var probabilities: [String: Double]?
    }

    private static func object(_ prediction: Predictor.Prediction, number: Int, classes: [String]) throws -> String {
        let row = Row(
            row: number, prediction: prediction.label.map { .text($0) } ?? .number(prediction.value ?? 0),
            probabilities: classes.isEmpty ? nil : prediction.probabilities)
        return String(decoding: try CohortJSON.encode(row), as: UTF8.self)
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
        try predictor.predict(csvAt: csv) { prediction, line in
            defer { row += 1 }
            if row % max(1, rows / limit) == rows / limit / 2 {
                table.rows.append([
                    "\(row + 1)", prediction.label ?? Figure.decimal(prediction.value),
                    prediction.label.map { Figure.percent(prediction.probabilities[$0]) } ?? "", line.target ?? "-",
                ])
            }
            return table.rows.count < limit
        }
        return table.text
    }
}

extension Predictor {
    /// Opens a model file; a custom module is run by the torch engine, in a separate process.
    convenience init(at path: String) async throws {
        let file = try ModelFile.read(path)
        var engine: (any TrainingEngine)?
        if file.module != nil {
            let engines = try Engines(settings: try await Settings(file: nil), engine: Engines.Choice.torch.rawValue)
            engine = try engines.make(threads: max(1, ProcessInfo.processInfo.activeProcessorCount)).engine
        }
        try self.init(file, engine: engine)
    }
}
