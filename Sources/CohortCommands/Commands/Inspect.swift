import ArgumentParser
import CohortCore
import CohortSession
import CohortTraining

struct Inspect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what a CSV's columns are taken for, and why.",
        discussion: "Nothing is trained, and no server is asked.")

    @Argument(help: "The CSV.")
    var csv: String
    @OptionGroup(title: "Columns") var columns: ColumnOptions
    @Option(help: "Share of rows held out for validation.")
    var validation = 0.2
    @Flag(help: "One JSON object: the schema and the warnings.")
    var json = false
    @Flag(help: "Say on standard error how long the look took.")
    var verbose = false

    private struct Report: Encodable {
        var schema: TableSchema
        var warnings: [String]
    }

    func run() async throws {
        let data = try TrainingData(file: csv, isPredicted: true)
        defer { withExtendedLifetime(data) {} }
        var settings = SessionSettings()
        try columns.apply(to: &settings)
        let started = ContinuousClock.now
        // The split as a session has it unless told otherwise.
        let finding = try SchemaInference.infer(
            csvAt: data.path, target: settings.target, task: settings.task, validation: validation, seed: 0,
            options: settings.dataOptions)
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        if json {
            try Terminal.print(json: Report(schema: finding.schema, warnings: finding.warnings))
        } else {
            Terminal.printLine(Self.text(finding.schema))
            for warning in finding.warnings { Terminal.printNote("warning: \(warning)") }
        }
        if verbose { Terminal.printNote("looked through the file in \(Figure.decimal(seconds, digits: 3)) s") }
    }

    /// The reason to show for a column without a note.
    private static func reason(_ column: TableSchema.Column) -> String {
        switch column.kind {
        case .numeric: "all values are numbers"
        case .categorical: "text of few different values"
        case .target: "to be predicted"
        case .date, .ignored: ""
        }
    }

    private static func text(_ schema: TableSchema) -> String {
        var table = TextTable(header: ["column", "taken for", "missing", "categories", "mean", "std", "why"])
        for column in schema.columns {
            table.rows.append([
                column.name, column.kind.rawValue, Figure.whole(column.missing), column.categories.map { Figure.whole($0.count) } ?? "",
                column.mean.map { Figure.decimal($0) } ?? "",
                column.std.map { Figure.decimal($0) } ?? "", column.note ?? Self.reason(column),
            ])
        }
        let dropped = schema.droppedRows > 0 ? ", \(Figure.whole(schema.droppedRows)) dropped" : ""
        let classes = schema.classes.prefix(20).joined(separator: ", ") + (schema.classes.count > 20 ? ", …" : "")
        return """
            \(table.text)

            rows: \(Figure.whole(schema.trainingRows)) for training, \(Figure.whole(schema.validationRows)) held out\(dropped)
            target: \(schema.target) (\(schema.task.rawValue)\(schema.task == .classification ? ", \(schema.classes.count) classes: \(classes)" : ""))
            features: \(Figure.whole(schema.featureCount))
            """
    }
}
