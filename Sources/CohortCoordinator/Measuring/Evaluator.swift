import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Measures models on a session's held-out rows in the server process, so that results do not depend on what peers report. Modules are users' code,
/// which the server does not run: for them the peers' measurements are used.
/// An actor on a thread of the executor.
actor Evaluator {
    /// Multiplications that a measurement at the end may take, about a second of one core, and one after each round.
    private static let (finalWork, roundWork) = (1_000_000_000, 50_000_000)
    private static let maxBytes = 64 << 20
    private static let minRows = 64

    private let executor: ThreadExecutor
    private let objects: any ObjectStore
    private var sample: ValidationSample?
    private var schema: TableSchema?
    private var isLoaded = false
    private var model: (spec: ModelSpec, model: any TrainableModel)?

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    init(_ objects: any ObjectStore, on executor: ThreadExecutor) {
        self.objects = objects
        self.executor = executor
    }

    /// - Parameters:
    ///   - isFinal: whether the measurement may take a second.
    ///   - slice: positions among the held-out rows; nil: all.
    /// - Returns: sums over the rows measured: all of them where they are few, else an even choice; nil when there is nothing to measure on.
    func measure(_ parameters: [Float], of session: Session, isFinal: Bool, slice: RowRange? = nil) async throws -> Counts? {
        guard let spec = session.model, spec.module == nil, let sample = try await loaded(session) else { return nil }
        let model = try prepared(spec)
        try model.load(parameters: parameters)
        var rows = slice.map { sample.rows(in: $0) } ?? sample.table.validationRows[...]
        let budget = max(Self.minRows, (isFinal ? Self.finalWork : Self.roundWork) / max(spec.parameterCount, 1))
        if rows.count > budget { rows = Self.thinned(rows, to: budget) }
        guard !rows.isEmpty else { return nil }
        return try model.evaluate(on: sample.table, rows: rows) { true }
    }

    /// Evaluates the final model in detail.
    func evaluate(_ parameters: [Float], of session: Session) async throws -> Evaluation? {
        guard let spec = session.model, spec.module == nil, let sample = try await loaded(session), let schema else { return nil }
        let model = try prepared(spec)
        try model.load(parameters: parameters)
        var tally = EvaluationTally(schema)
        let table = sample.table
        let target = schema.columns.first { $0.kind == .target }
        let (mean, std) = (target?.mean ?? 0, target?.std ?? 1)
        let block = max(1, min(256, (1 << 20) / max(table.featureCount, 1)))
        for start in stride(from: 0, to: table.rowCount, by: block) {
            let rows = min(block, table.rowCount - start)
            let outputs = try model.predict(table.features(of: start..<(start + rows)), rowCount: rows)
            for row in 0..<rows {
                let actual = table.target(of: start + row)
                if spec.task == .classification {
                    tally.add(probabilities: outputs[(row * spec.outputs)..<((row + 1) * spec.outputs)], actual: Int(actual))
                } else {
                    tally.add(predicted: Double(outputs[row]) * std + mean, actual: Double(actual) * std + mean)
                }
            }
        }
        var evaluation = tally.evaluation
        evaluation?.importance = try ColumnImportance(model, on: table, schema: schema, seed: session.settings.seed).all()
        return evaluation
    }

    private static func thinned(_ rows: ArraySlice<UInt32>, to count: Int) -> ArraySlice<UInt32> {
        (0..<count).map { rows[rows.startIndex + $0 * rows.count / count] }[...]
    }

    private func prepared(_ spec: ModelSpec) throws -> any TrainableModel {
        if let model, model.spec == spec { return model.model }
        let made = try NativeEngine(threads: 1).makeModel(spec)
        model = (spec, made)
        return made
    }

    private func loaded(_ session: Session) async throws -> ValidationSample? {
        if isLoaded { return sample }
        guard let dataset = session.dataset, let spec = session.model else { return nil }
        let rows = max(
            Self.minRows, min(Self.finalWork / max(spec.parameterCount, 1), Self.maxBytes / (4 * max(dataset.features, 1))))
        let schema = try await SchemaObject(of: session, in: objects).schema
        self.schema = schema
        let table = try await StoredTable(sessionId: session.id, in: objects)
        let dictionary = try table.manifest.floats(ofDictionary: try await table.dictionary())
        sample = try await ValidationSample.load(table.manifest, dictionary: dictionary, maxRows: rows) { try await table.part($0) }
        isLoaded = true
        return sample
    }
}
