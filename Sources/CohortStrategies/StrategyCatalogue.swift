public import CohortCore

/// Every strategy there is: a new one is one file and one row here.
public enum StrategyCatalogue {
    private static let all: [any Strategy] = [FedAvg(), FedProx(), Median(), Independent()]

    public static var names: [String] { all.map { type(of: $0).name } }

    /// - Throws: ``CohortError`` `invalid`, listing the names.
    public static func named(_ name: String) throws -> any Strategy {
        guard let strategy = all.first(where: { type(of: $0).name == name }) else {
            throw CohortError(.invalid, "strategy is '\(name)'; it must be one of \(names.joined(separator: ", "))")
        }
        return strategy
    }
}
