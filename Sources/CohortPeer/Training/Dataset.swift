import CohortCore

/// A data set as it is trained on, and what it was made from.
final class Dataset: Sendable {
    let csvSha256: String
    let schemaHash: String
    let schema: TableSchema
    /// The table as the engine needs it.
    let prepared: any PreparedTable
    var table: FeatureTable { prepared.table }

    init(csvSha256: String, schemaHash: String, schema: TableSchema, prepared: any PreparedTable) {
        self.csvSha256 = csvSha256
        self.schemaHash = schemaHash
        self.schema = schema
        self.prepared = prepared
    }

    /// - Throws: ``CohortError`` `invalid` when the model is for another table.
    func check(_ model: ModelSpec) throws {
        guard model.inputs == table.featureCount, model.outputs == schema.outputCount, model.task == schema.task else {
            throw CohortError(
                .invalid,
                "the model takes \(model.inputs) features to \(model.outputs) outputs (\(model.task)), the data set has \(table.featureCount) and \(schema.outputCount) (\(schema.task))"
            )
        }
    }

    /// Returns the validation rows at these positions; all for nil.
    /// - Throws: ``CohortError`` `invalid` for positions past the validation rows.
    func validationRows(_ range: RowRange?) throws -> ArraySlice<UInt32> {
        guard let range else { return table.validationRows[...] }
        guard range.start >= 0, range.start <= range.end, range.end <= table.validationRows.count else {
            throw CohortError(
                .invalid, "validation rows \(range.start) to \(range.end) were assigned, but there are \(table.validationRows.count)")
        }
        return table.validationRows[range.start..<range.end]
    }
}
