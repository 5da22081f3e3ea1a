public import CohortCore

/// Rows to predict, and what is predicted.
extension API {
    public struct Prediction: Codable, Sendable {
        /// Class labels, or numbers in the target's own units.
        public var predictions: [JSONScalar]
        /// Classification: class label → probability, a row each.
        public var probabilities: [[String: Double]]?
        public init(predictions: [JSONScalar], probabilities: [[String: Double]]?) {
            self.predictions = predictions
            self.probabilities = probabilities
        }
    }

    public struct PredictRequest: Codable, Sendable {
        /// Objects by column name.
        public var rows: [[String: JSONScalar]]
        /// Columns that are missing from every row count as missing values; otherwise they are an error.
        public var allowMissing: Bool?
        public init(rows: [[String: JSONScalar]], allowMissing: Bool? = nil) {
            self.rows = rows
            self.allowMissing = allowMissing
        }
    }
}
