import CohortCore

/// The rows of a session as they are trained on.
final class Dataset: Sendable {
    let manifest: TableManifest
    /// The table as the engine needs it.
    let prepared: any PreparedTable
    var table: FeatureTable { prepared.table }

    init(manifest: TableManifest, prepared: any PreparedTable) {
        self.manifest = manifest
        self.prepared = prepared
    }

    /// - Throws: ``CohortError`` `invalid` when the model is for another table.
    func check(_ model: ModelSpec) throws {
        guard model.inputs == table.featureCount, model.outputs == manifest.outputs, model.task == manifest.task else {
            throw CohortError(
                .invalid,
                "the model takes \(model.inputs) features to \(model.outputs) outputs (\(model.task)), the data set has \(table.featureCount) and \(manifest.outputs) (\(manifest.task))"
            )
        }
    }

    /// Returns the validation rows at these positions; none for nil.
    /// - Throws: ``CohortError`` `invalid` for positions past the validation rows.
    func validationRows(_ range: RowRange?) throws -> ArraySlice<UInt32> {
        guard let range else { return [] }
        guard range.isValid(among: table.validationRows.count) else {
            throw CohortError(
                .invalid, "validation rows \(range.start) to \(range.end) were assigned, but there are \(table.validationRows.count)")
        }
        return table.validationRows[range.start..<range.end]
    }
}
