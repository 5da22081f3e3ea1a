import CohortCore

/// The result of the first pass over a CSV, in memory that does not grow with its rows.
struct FirstLook {
    let scans: [ColumnScan]
    /// The different numbers of each column; nil where they are many.
    let numbers: [[Double]?]
    /// Index of the target's column.
    let target: Int
    /// The target's values; nil when there are too many for classes.
    let labels: LabelScan?
    /// The distinct values of columns that may be ids: those without a name, and those named like one.
    let identifiers: [Int: DistinctScan]
    let groups: GroupScan?
    let rows: Int
    /// The last row, if it looks like a sum of those above.
    let total: (text: String, line: Int)?

    /// - Throws: ``CohortError`` `invalid` for a record of another width.
    init(
        _ reader: CSVReader, header: Header, target: String?, options: DataOptions, seed: UInt64, parallel: InParallel,
        shouldContinue: () -> Bool
    ) throws {
        let columns = header.names.count
        var scans = ColumnScans(names: header.names, comma: reader.takesComma)
        // The last column may turn out to be empty (a delimiter at the end of each line): then the one before it is the target.
        let eligible = header.names.indices.filter { header.names[$0] != options.group && !options.ignore.contains(header.names[$0]) }
        let candidates = target.flatMap(header.names.firstIndex(of:)).map { [$0] } ?? eligible.suffix(3)
        var labels = candidates.map { _ in LabelScan() }
        let watched = header.names.indices.filter { header.unnamed.contains($0) && $0 == 0 || Identifiers.areNamed(by: header.names[$0]) }
        var identifiers = watched.map { _ in DistinctScan(columns: watched.count) }
        let group = options.group.flatMap(header.names.firstIndex(of:))
        var groups = group.map { _ in GroupScan(seed: seed) }
        var rows = 0
        var lastRow: (text: String, line: Int)?
        // The first name is compared byte by byte in each row; the others only where that is the same.
        let firstName = Array(header.names[0].utf8)
        try SchemaInference.forEachBatch(reader, hasHeader: header.isThere, shouldContinue) { records in
            for record in records {
                try record.check(columns: columns, hasHeader: header.isThere)
                for (place, index) in candidates.enumerated() { labels[place].add(record.trimmed(index), line: record.line) }
                for (place, index) in watched.enumerated() { identifiers[place].add(record.trimmed(index)) }
                if let group { groups?.add(record.trimmed(group)) }
            }
            if header.isThere, !header.unnamed.contains(0) {
                for record in records where record.trimmed(0).elementsEqual(firstName) {
                    guard header.names.indices.allSatisfy({ header.unnamed.contains($0) || record.text($0) == header.names[$0] }) else {
                        continue
                    }
                    throw CohortError(
                        .invalid,
                        "line \(record.line) is the header again, as in files that were put one behind the other: remove that line")
                }
            }
            if let last = records.last { lastRow = (last.text(0), last.line) }
            rows += records.count
            try scans.add(records, parallel)
        }
        let found = scans.finish()
        self.scans = found
        numbers = header.names.indices.map { scans.distinct[$0] }
        self.rows = rows
        total = lastRow.flatMap { Self.isTotal($0.text) ? $0 : nil }
        guard rows > 0 else { throw CohortError(.invalid, "the file has a header and no rows") }
        guard let index = candidates.last(where: { found[$0].values > 0 }) ?? (target == nil ? nil : candidates.first) else {
            throw CohortError(.invalid, "the last columns have no values: name the column to predict with --target")
        }
        self.target = index
        self.labels = candidates.firstIndex(of: index).map { labels[$0] }
        self.identifiers = Dictionary(uniqueKeysWithValues: zip(watched, identifiers))
        self.groups = groups
    }

    private static func isTotal(_ text: String) -> Bool {
        let words = text.lowercased().filter { $0.isLetter || $0 == " " }.split(separator: " ")
        return words.first.map { ["total", "totals", "sum", "summe", "gesamt", "insgesamt", "subtotal", "average", "mean"].contains($0) }
            ?? false
            && words.count <= 2
    }

    /// The target's labels and how many rows each has.
    var classes: [String: Int]? { labels?.labels(noneIsWord: scans[target].noneIsWord) }

    /// Returns whether all values of a column that may be an id are different.
    func namesRows(_ index: Int) -> Bool {
        guard let scan = identifiers[index], scan.allDiffer, scan.values > 1, scans[index].missing == 0 else { return false }
        return true
    }
}
