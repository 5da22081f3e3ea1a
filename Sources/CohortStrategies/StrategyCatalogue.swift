import CohortCore
public import CohortSession
import Synchronization

/// Every strategy there is: a new one is one file and one row here, or, in a program of one's own, ``add(_:)``.
public enum StrategyCatalogue {
    /// Those of Cohort, then those that were added.
    public static var all: [any Strategy] { builtIn + added.withLock { $0 } }

    private static let added = Mutex<[any Strategy]>([])

    /// Makes a strategy known to this process, before anything asks for it.
    /// - Throws: ``CohortError`` `conflict` when there is one of that name.
    public static func add(_ strategy: any Strategy) throws {
        guard !builtIn.contains(where: { $0.name == strategy.name }) else {
            throw CohortError(.conflict, "there is a strategy '\(strategy.name)' already")
        }
        try added.withLock { added in
            guard !added.contains(where: { $0.name == strategy.name }) else {
                throw CohortError(.conflict, "there is a strategy '\(strategy.name)' already")
            }
            added.append(strategy)
        }
    }

    private static let builtIn: [any Strategy] = [
        FedAvg(), FedProx(), Scaffold(), FedAvgM(), FedAdam(), FedYogi(), FedAdagrad(), DiLoCo(), Median(), TrimmedMean(), Krum(),
        MultiKrum(),
        GeometricMedian(), CenteredClipping(), FedBuff(), Independent(),
    ]

    public static var names: [String] { all.map { type(of: $0).name } }

    /// - Throws: ``CohortError`` `invalid`, listing the names.
    public static func named(_ name: String) throws -> any Strategy {
        guard let strategy = all.first(where: { type(of: $0).name == name }) else {
            throw CohortError(.invalid, "strategy is '\(name)'; it must be one of \(names.joined(separator: ", "))")
        }
        return strategy
    }
}
