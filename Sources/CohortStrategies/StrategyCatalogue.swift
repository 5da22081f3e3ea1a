import CohortCore
public import CohortSession

/// The strategies that a program knows, by name.
public struct StrategyCatalogue: Sendable {
    public let all: [any Strategy]

    /// Cohort's own strategies: a new one is one file and one row here.
    public static let builtIn = StrategyCatalogue(all: [
        FedAvg(), FedProx(), Scaffold(), FedAvgM(), FedAdam(), FedYogi(), FedAdagrad(), DiLoCo(), Median(), TrimmedMean(), Krum(),
        MultiKrum(), GeometricMedian(), CenteredClipping(), FedBuff(), Independent(),
    ])

    private init(all: [any Strategy]) { self.all = all }

    /// Returns a catalogue that has another strategy as well.
    /// - Throws: ``CohortError`` `conflict` when there is one of that name.
    public func adding(_ strategy: any Strategy) throws -> StrategyCatalogue {
        guard !names.contains(strategy.name) else {
            throw CohortError(.conflict, "there is a strategy '\(strategy.name)' already")
        }
        return StrategyCatalogue(all: all + [strategy])
    }

    public var names: [String] { all.map(\.name) }

    /// - Throws: ``CohortError`` `invalid`, listing the names.
    public func named(_ name: String) throws -> any Strategy {
        guard let strategy = all.first(where: { $0.name == name }) else {
            throw CohortError(.invalid, "strategy is '\(name)'; it must be one of \(names.joined(separator: ", "))")
        }
        return strategy
    }
}
