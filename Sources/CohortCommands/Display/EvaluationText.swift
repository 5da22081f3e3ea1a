import CohortAPI
import CohortCore
import CohortSession

/// An evaluation for people: the numbers that matter first, guessing beside them.
enum EvaluationText {
    /// Classes that are listed.
    private static let maxListed = 30
    /// Classes of which it is shown what they are taken for.
    private static let maxConfused = 12

    /// Columns that are listed by their importance.
    private static let maxColumns = 8

    static func make(_ evaluation: Evaluation) -> String {
        let text = evaluation.task == .classification ? classification(evaluation) : regression(evaluation)
        guard let importance = evaluation.importance?.filter({ $0.loss > 0 }), let first = importance.first else { return text }
        let columns = importance.prefix(maxColumns).map { "\($0.column) \(Figure.decimal($0.loss / first.loss, digits: 2))" }
        return text + "\n\nfeature importance (relative, by permutation): \(columns.joined(separator: ", "))"
    }

    private static func classification(_ evaluation: Evaluation) -> String {
        let interval =
            evaluation.accuracyInterval.map { " (95 % interval \(Figure.percent($0.first)) to \(Figure.percent($0.last)))" } ?? ""
        var lines = ["accuracy \(Figure.percent(evaluation.accuracy))\(interval) on \(rows(evaluation.samples))"]
        if let guessing = evaluation.guessing, let accuracy = guessing.accuracy {
            lines.append(
                "guessing '\(guessing.prediction)' always: \(Figure.percent(accuracy))\(verdict(better: (evaluation.accuracy ?? 0) > accuracy))"
            )
        }
        lines.append(
            "balanced accuracy \(Figure.percent(evaluation.balancedAccuracy)), log loss \(Figure.decimal(evaluation.loss)), calibration error \(Figure.percent(evaluation.calibrationError))"
        )
        guard let classes = evaluation.classes else { return lines.joined(separator: "\n") }
        var table = TextTable(header: ["class", "precision", "recall", "F1", "rows"])
        for score in classes.prefix(maxListed) {
            table.rows.append([
                score.label, Figure.percent(score.precision), Figure.percent(score.recall), Figure.percent(score.f1),
                Figure.whole(score.samples),
            ])
        }
        lines += ["", table.text]
        if classes.count > maxListed { lines.append("… and \(classes.count - maxListed) classes more (--json has all)") }
        if let confusion = evaluation.confusion, classes.count <= maxConfused {
            var matrix = TextTable(header: ["true \\ predicted"] + classes.map(\.label))
            for (score, counts) in zip(classes, confusion) { matrix.rows.append([score.label] + counts.map(Figure.whole)) }
            lines += ["", matrix.text]
        }
        return lines.joined(separator: "\n")
    }

    private static func regression(_ evaluation: Evaluation) -> String {
        var lines = [
            "RMSE \(Figure.significant(evaluation.rmse)), MAE \(Figure.significant(evaluation.mae)), R² \(Figure.decimal(evaluation.r2)) on \(rows(evaluation.samples)), in units of '\(evaluation.target)'"
        ]
        if let guessing = evaluation.guessing, let rmse = guessing.rmse {
            let number = Double(guessing.prediction).map { Figure.significant($0) } ?? guessing.prediction
            lines.append(
                "guessing the mean \(number) always: RMSE \(Figure.significant(rmse)), MAE \(Figure.significant(guessing.mae))\(verdict(better: (evaluation.rmse ?? .infinity) < rmse))"
            )
        }
        return lines.joined(separator: "\n")
    }

    private static func rows(_ count: Int) -> String { "\(Figure.whole(count)) \(count == 1 ? "row" : "rows")" }

    private static func verdict(better: Bool) -> String { better ? "" : "; the model is no better than that" }
}

/// The results as tables for people.
enum ResultsText {
    /// Rounds that are listed.
    private static let maxRounds = 12

    static func make(_ results: API.Results) -> String {
        let isRegression = results.task == .regression || results.metrics.r2 != nil
        var parts: [String] = []
        if let target = results.target {
            let chosen = results.targetGiven ? "" : " (the last column; --target chooses another)"
            let classes = results.evaluation?.classes.map { ", \($0.count) classes" } ?? ""
            parts.append("predicting '\(target)'\(chosen)\(isRegression ? ", a quantity" : classes); seed \(results.seed)")
        }
        if !results.warnings.isEmpty { parts.append(results.warnings.map { "data: \($0)" }.joined(separator: "\n")) }
        parts.append(peers(results, isRegression))
        if let rounds = rounds(results.history, isRegression, std: results.targetStd) { parts.append(rounds) }
        parts.append(results.evaluation.map(EvaluationText.make) ?? measured(results, isRegression))
        parts.append(closing(results))
        return parts.joined(separator: "\n\n")
    }

    /// A peer reports metrics of its training; where each has a separate model, those on the held-out rows.
    private static func peers(_ results: API.Results, _ isRegression: Bool) -> String {
        let of = results.bestPeer != nil ? "validation" : "training"
        // Of training, a quantity's R² is not measured.
        let score = !isRegression ? ["\(of) accuracy"] : of == "training" ? [] : ["\(of) R²"]
        var table = TextTable(
            header: ["peer", "engine", "device", "state", "rows trained", "rows received", "samples/s", "sent", "\(of) loss"] + score)
        for peer in results.peers {
            let figures = [isRegression ? Figure.decimal(peer.r2) : Figure.percent(peer.accuracy)].prefix(score.count)
            table.rows.append(
                [
                    peer.name, peer.engine, peer.device, peer.state.rawValue, Figure.whole(peer.trainedSamples),
                    peer.receivedRows.map { Figure.whole($0) } ?? "-",
                    peer.samplesPerSecond.map { Figure.whole(Int(min($0, 1e15))) } ?? "-", peer.sentBytes.map { Figure.bytes($0) } ?? "-",
                    Figure.decimal(peer.loss),
                ] + figures)
        }
        return table.text(width: Terminal.room, dropping: ["engine", "device", "state", "rows received", "sent", "samples/s"])
    }

    /// The last rounds, and how the validation loss went.
    private static func rounds(_ history: [RoundSummary], _ isRegression: Bool, std: Double?) -> String? {
        guard history.count > 1, history.contains(where: { $0.validation?.loss != nil }) else { return nil }
        let header = ["round", "training loss", "validation loss", isRegression ? "validation R²" : "validation accuracy"]
        var table = TextTable(header: header + (std == nil ? [] : ["validation RMSE"]))
        for round in history.suffix(maxRounds) {
            let rmse = std.map { std in [Figure.significant(round.validation?.loss.map { $0.squareRoot() * std })] } ?? []
            table.rows.append(
                [
                    "\(round.round + 1)", Figure.decimal(round.training?.loss), Figure.decimal(round.validation?.loss),
                    isRegression ? Figure.decimal(round.validation?.r2) : Figure.percent(round.validation?.accuracy),
                ] + rmse)
        }
        let best = history.filter { $0.validation?.loss != nil }.min { ($0.validation?.loss ?? 0) < ($1.validation?.loss ?? 0) }
        var text = table.text
        // By more than the end of training wavers.
        if let best, let last = history.last, best.round + 2 <= last.round, let low = best.validation?.loss,
            let end = last.validation?.loss,
            let first = history.first?.validation?.loss, end > low * 1.1, end - low > 0.02 * first
        {
            text +=
                "\nthe validation loss was lowest after round \(best.round + 1) and has risen since: fewer rounds, or --early-stopping 3, may be better"
        }
        return text
    }

    private static func measured(_ results: API.Results, _ isRegression: Bool) -> String {
        let score = isRegression ? "R² \(Figure.decimal(results.metrics.r2))" : "accuracy \(Figure.percent(results.metrics.accuracy))"
        return
            "model: validation loss \(Figure.decimal(results.metrics.loss)), \(score) on \(Figure.whole(results.metrics.samples)) held-out rows"
    }

    private static func closing(_ results: API.Results) -> String {
        var text = "rounds: \(results.rounds), time: \(Figure.seconds(results.seconds))"
        if let expected = results.expectedSeconds { text += " (\(Figure.seconds(expected)) of computing were expected)" }
        if let best = results.bestPeer { text += ", best peer: \(best)" }
        if let rows = results.rows {
            let times = rows.least == rows.most ? "\(rows.least)" : "\(rows.least) to \(rows.most)"
            text += "\nrows: \(Figure.whole(rows.rows)), each trained on \(times == "1" ? "once" : "\(times) times")"
        }
        return text
    }
}
