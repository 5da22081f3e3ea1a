import CohortCore
import CohortSession
import FoundationEssentials

/// A model's card: what it was made of, how good it is, and what it is not, as Markdown (after Mitchell et al. 2019, arXiv 1810.03993).
enum ModelCard {
    /// - Parameter session: completed, with its schema.
    static func text(_ session: Session, _ results: SessionResults) -> String {
        let schema = session.dataset?.schema
        let evaluation = results.evaluation
        let name = session.settings.name ?? session.filename
        var parts = ["# \(line(name))"]
        if let note = session.settings.note { parts.append(line(note)) }
        let task = session.model?.task == .regression ? "a quantity (regression)" : "one of \(schema?.classes.count ?? 0) classes"
        parts.append(
            table(
                ["", ""],
                [
                    ["Predicts", "`\(line(session.dataset?.target ?? ""))`, \(task)"],
                    ["Version", session.modelVersion.map { "\($0)" } ?? "1"], ["Session", session.id],
                    ["Trained", session.endedAt.map { $0.formatted(.iso8601) } ?? ""], ["Made by", "Cohort \(CohortVersion.current)"],
                    [
                        "Format",
                        "`.safetensors`, with the tensors of PyTorch's `nn.Sequential`; the transform of raw rows is in its metadata",
                    ],
                ]))
        parts.append("## Data")
        if let dataset = session.dataset {
            parts.append(
                "`\(line(session.filename))`, SHA-256 `\(dataset.object.sha256)`. \(dataset.trainingRows) rows were trained on, \(dataset.validationRows) were held out\(schema.map { $0.droppedRows > 0 ? ", \($0.droppedRows) without a target were left out" : "" } ?? ""). The split is drawn from the seed\(schema?.group.map { ", and keeps the rows of one `\(line($0))` together" } ?? "")."
            )
            if !dataset.warnings.isEmpty { parts.append(dataset.warnings.map { "- \(line($0))" }.joined(separator: "\n")) }
        }
        if let schema {
            parts.append(
                table(
                    ["Column", "Taken for", "Missing", "Note"],
                    schema.columns.map { ["`\(line($0.name))`", $0.kind.rawValue, "\($0.missing)", line($0.note ?? "")] }))
        }
        parts.append("## Evaluation")
        parts.append(
            "Measured by the server on the \(evaluation?.samples ?? results.metrics.samples) held-out rows, which no machine trained on.")
        parts.append(table(["Measure", "Value"], measures(results)))
        if let classes = evaluation?.classes {
            parts.append(
                table(
                    ["Class", "Precision", "Recall", "F1", "Rows"],
                    classes.map { [line($0.label), number($0.precision), number($0.recall), number($0.f1), "\($0.samples)"] }))
        }
        if let importance = evaluation?.importance {
            parts.append(
                "Permutation importance: the increase of the loss, and the drop of the accuracy, when the values of one column are shuffled among the held-out rows. Correlated columns share it."
            )
            parts.append(
                table(
                    ["Column", "Loss", "Accuracy"],
                    importance.prefix(30).map {
                        ["`\(line($0.column))`", change(of: $0.loss), change(of: $0.accuracy.map { -$0 })]
                    }))
        }
        parts.append("## Training")
        parts.append(table(["Setting", "Value"], settings(session)))
        parts.append(
            table(
                ["Machine", "Engine", "Rows trained"],
                session.peers.map { [line($0.name), "\(line($0.engine)), \(line($0.device))", "\($0.trainedSamples)"] }))
        parts.append("## Limitations")
        parts.append(
            "The metrics hold for data like the held-out rows. Accuracy may be lower for data of another time, place or group. Fairness was not evaluated: evaluate it before using the model for decisions about people."
        )
        return parts.joined(separator: "\n\n") + "\n"
    }

    private static func measures(_ results: SessionResults) -> [[String]] {
        let evaluation = results.evaluation
        let all: [(String, Double?)] = [
            ("Accuracy", results.metrics.accuracy), ("Balanced accuracy", evaluation?.balancedAccuracy), ("R²", results.metrics.r2),
            ("RMSE", evaluation?.rmse), ("MAE", evaluation?.mae), ("Loss", results.metrics.loss),
            ("Calibration error", evaluation?.calibrationError), ("Accuracy of guessing", evaluation?.guessing?.accuracy),
            ("RMSE of guessing", evaluation?.guessing?.rmse),
        ]
        var rows = all.compactMap { name, value in value.map { [name, number($0)] } }
        if let interval = evaluation?.accuracyInterval {
            rows.insert(["Accuracy, 95 % interval", "\(number(interval.first)) to \(number(interval.last))"], at: 1)
        }
        return rows
    }

    /// The settings that are always shown; the others are shown where they differ from their default.
    private static let mainSettings: Set = [
        "strategy", "rounds", "epochs", "batch_size", "lr", "optimizer", "hidden", "activation", "dropout", "seed", "validation",
    ]

    static func settings(_ session: Session) -> [[String]] {
        SessionSetting.all.compactMap { setting in
            // The card begins with these.
            guard !["name", "note"].contains(setting.name), let text = try? setting.text(of: session.settings) else { return nil }
            guard mainSettings.contains(setting.name) || text != setting.standard else { return nil }
            if setting.name == "epochs", session.settings.localSteps != nil { return nil }
            return [setting.label, line(text)]
        }
    }

    private static func number(_ value: Double?) -> String {
        guard let value, value.isFinite, abs(value) < 1e12 else { return "–" }
        return "\((value * 10_000).rounded() / 10_000)"
    }

    /// A number with its sign; 0 has none.
    private static func change(of value: Double?) -> String {
        guard let value else { return "" }
        let text = number(abs(value))
        return text == "0.0" || text == "–" ? text : "\(value < 0 ? "−" : "+")\(text)"
    }

    private static func table(_ header: [String], _ rows: [[String]]) -> String {
        ([header, header.map { _ in "---" }] + rows).map { "| " + $0.joined(separator: " | ") + " |" }.joined(separator: "\n")
    }

    /// Escapes names of users and files for a line of Markdown.
    private static func line(_ text: String) -> String {
        var made = ""
        for character in text.printable(max: 300) {
            switch character {
            // Wherever it is shown, and however carelessly, no tag comes of it.
            case "<": made += "&lt;"
            case ">": made += "&gt;"
            case "&": made += "&amp;"
            default:
                if #"\`*_{}[]#|!"#.contains(character) { made.append("\\") }
                made.append(character.isNewline ? " " : character)
            }
        }
        return made
    }
}
