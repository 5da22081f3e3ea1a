import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials

/// An inspection of the beginning of a CSV, before it is uploaded.
struct CSVLook: Encodable {
    struct Column: Encodable {
        var name: String
        var kind: TableSchema.ColumnKind
        var missing: Int
        var note: String?
        var counts: [Int]
        var least: Double?
        var most: Double?
        var examples: [String]?
    }

    var rows: Int
    /// Nothing follows the rows.
    var isWhole: Bool
    var target: String
    var task: LearningTask
    var classes: [String]
    var columns: [Column]
    var warnings: [String]

    /// - Parameters:
    ///   - isWhole: the bytes are the whole file; else its last line may be cut.
    ///   - folder: for a file that lives as long as the look.
    /// - Throws: ``CohortError`` `invalid`, as training on the file would.
    static func inspect(_ bytes: [UInt8], isWhole: Bool, target: String?, task: LearningTask?, folder: String) throws -> CSVLook {
        guard !TensorData.isOne(bytes) else {
            throw CohortError(
                .invalid, "tensors are trained on from the command line (`cohort train data.safetensors`) or Python; this page takes CSVs")
        }
        let (bytes, isWhole) = try unpacked(bytes, isWhole: isWhole)
        var rows = bytes[...]
        if !isWhole, let end = rows.lastIndex(of: 0x0a) { rows = rows[...end] }
        guard !rows.isEmpty else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        let path = TemporaryFiles.path("look", in: folder) + ".csv"
        do {
            try Data(rows).write(to: URL(filePath: path))
        } catch {
            throw CohortError(.storageFull, "\(folder) cannot be written to")
        }
        defer { try? FileManager.default.removeItem(atPath: path) }  // One that stays is a megabyte in the server's folder.
        let finding = try SchemaInference.infer(csvAt: path, target: target, task: task, validation: 0.2, seed: 0)
        let summaries = try ColumnSummary.all(csvAt: path, schema: finding.schema)
        let columns = zip(finding.schema.columns, summaries).map { column, summary in
            Column(
                name: column.name, kind: column.kind, missing: column.missing, note: column.note, counts: summary.counts,
                least: summary.least, most: summary.most, examples: summary.examples)
        }
        return CSVLook(
            rows: finding.schema.trainingRows + finding.schema.validationRows + finding.schema.droppedRows, isWhole: isWhole,
            target: finding.schema.target, task: finding.schema.task, classes: finding.schema.classes, columns: columns,
            warnings: finding.warnings)
    }

    /// The first megabyte of what a packed file holds; a file that is not packed as it is.
    private static func unpacked(_ bytes: [UInt8], isWhole: Bool) throws -> (bytes: [UInt8], isWhole: Bool) {
        guard Unpacker.isPacked(bytes) else { return (bytes, isWhole) }
        let unpacker = Unpacker()
        unpacker.feed(bytes)
        if isWhole { unpacker.finish() }
        var unpacked: [UInt8] = []
        while let next = try unpacker.next() {
            unpacked += next
            guard unpacked.count < 1 << 20 else { return (unpacked, false) }
        }
        if isWhole { try unpacker.checkWhole() }
        return (unpacked, isWhole)
    }
}
