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
    /// nil: none can be predicted as it is.
    var target: String?
    var task: LearningTask?
    var classes: [String]
    var columns: [Column]
    var warnings: [String]
    /// Why the chosen column, or the last one, cannot be predicted: the person chooses another.
    var problem: String?

    /// - Parameters:
    ///   - isWhole: the bytes are the whole file; else its last line may be cut.
    ///   - folder: for a file that lives as long as the look.
    /// - Throws: ``CohortError`` `invalid`, as training on the file would.
    static func inspect(_ bytes: [UInt8], isWhole: Bool, target: String?, task: LearningTask?, folder: String) throws -> CSVLook {
        guard !TensorData.isOne(bytes) else {
            throw CohortError(
                .invalid, "tensors are trained on from the command line (`cohort train data.safetensors`) or Python; this page takes CSVs")
        }
        let found = try withBeginning(of: bytes, isWhole: isWhole, folder: folder) { path, isWhole in
            do {
                return try look(csvAt: path, isWhole: isWhole, target: target, task: task)
            } catch let error as CohortError where error.code == .invalid {
                return try withAnotherTarget(csvAt: path, isWhole: isWhole, target: target, after: error)
            }
        }
        guard let found else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        return found
    }

    /// Writes the whole lines of a CSV's beginning to a file that lives as long as `body`.
    /// - Parameter isWhole: the bytes are the whole file; else its last line may be cut.
    /// - Returns: nil when there are no rows, or tensors.
    static func withBeginning<Result>(
        of bytes: [UInt8], isWhole: Bool, folder: String, _ body: (_ path: String, _ isWhole: Bool) throws -> Result
    ) throws -> Result? {
        guard !TensorData.isOne(bytes) else { return nil }
        let (bytes, isWhole) = try unpacked(bytes, isWhole: isWhole)
        var rows = bytes[...]
        if !isWhole, let end = rows.lastIndex(of: 0x0a) { rows = rows[...end] }
        guard !rows.isEmpty else { return nil }
        let path = TemporaryFiles.path("look", in: folder) + ".csv"
        do {
            try Data(rows).write(to: URL(filePath: path))
        } catch {
            throw CohortError(.storageFull, "\(folder) cannot be written to")
        }
        defer { try? FileManager.default.removeItem(atPath: path) }  // One that stays is a megabyte in the server's folder.
        return try body(path, isWhole)
    }

    /// The maximum number of columns that are tried as the target.
    private static let maxTargets = 12

    /// The columns as they are when another column is the target.
    /// - Parameter error: what is wrong with the target; thrown again when it is the file that is wrong.
    private static func withAnotherTarget(csvAt path: String, isWhole: Bool, target: String?, after error: CohortError) throws -> CSVLook {
        guard let names = try? SchemaInference.columnNames(csvAt: path), names.count > 1, target.map(names.contains) ?? true else {
            throw error
        }
        let refused = target ?? names.last
        var isOfFile = true
        for name in names.reversed().filter({ $0 != refused }).prefix(maxTargets) {
            do {
                var found = try look(csvAt: path, isWhole: isWhole, target: name, task: nil)
                if let index = found.columns.firstIndex(where: { $0.kind == .target }) {
                    found.columns[index].kind = found.task == .regression ? .numeric : .categorical
                }
                (found.target, found.task, found.classes, found.warnings, found.problem) = (target, nil, [], [], error.message)
                return found
            } catch let other as CohortError where other.code == .invalid {
                isOfFile = isOfFile && other.message == error.message
            }
        }
        // The same for every target: no choice of one would help.
        guard !isOfFile else { throw error }
        let columns = names.map { Column(name: $0, kind: .ignored, missing: 0, counts: []) }
        return CSVLook(rows: 0, isWhole: isWhole, target: target, classes: [], columns: columns, warnings: [], problem: error.message)
    }

    private static func look(csvAt path: String, isWhole: Bool, target: String?, task: LearningTask?) throws -> CSVLook {
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
