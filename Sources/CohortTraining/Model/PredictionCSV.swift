public import CohortCore

/// Predictions as lines of a CSV: the prediction first, then for classes the probability of each, with 4 digits; behind the columns that there were,
/// where those are kept.
public struct PredictionCSV: Sendable {
    private let target: String
    private let classes: [String]
    private let keepsColumns: Bool

    public init(_ schema: TableSchema, keepsColumns: Bool) {
        target = schema.target
        classes = schema.classes
        self.keepsColumns = keepsColumns
    }

    /// Without a line break.
    public func header(_ columns: [String]) -> String {
        let names = (keepsColumns ? columns + ["predicted_\(target)"] : [target]) + classes.map { "p(\($0))" }
        return names.map(\.csvName).joined(separator: ",")
    }

    public func line(_ prediction: Predictor.Prediction, _ row: Predictor.Row) -> String {
        let first = prediction.label ?? prediction.value.map { "\($0)" } ?? ""
        let rest = classes.map { Self.share(prediction.probabilities[$0] ?? .nan) }
        // The rows' own fields are given back as they came.
        return (row.fields.map(\.csvField) + [first.csvName] + rest).joined(separator: ",")
    }

    /// 0.0000 to 1.0000.
    private static func share(_ value: Double) -> String {
        guard value.isFinite else { return "" }
        let digits = String(Int((value * 10_000).rounded()) % 10_000)
        return "\(Int((value * 10_000).rounded()) / 10_000)." + String(repeating: "0", count: 4 - digits.count) + digits
    }
}
