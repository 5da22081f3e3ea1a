import CohortCore

/// What the first pass over a CSV learns, with memory that does not grow with its rows.
struct FirstLook {
    let scans: [ColumnScan]
    /// Index of the target's column.
    let target: Int
    /// The target's values; nil when there are too many for classes.
    let labels: LabelScan?
    /// Of columns that may be ids: those without a name, and those named like one.
    let identifiers: [Int: DistinctScan]
    let groups: GroupScan?
    let rows: Int

    /// - Throws: ``CohortError`` `invalid` for a record of another width.
    init(
        _ reader: CSVReader, _ header: Header, target: String?, _ options: DataOptions, seed: UInt64, _ parallel: InParallel,
        _ shouldContinue: () -> Bool
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
        try SchemaInference.forEachBatch(reader, hasHeader: header.isThere, shouldContinue) { records in
            for record in records {
                try record.check(columns: columns, hasHeader: header.isThere)
                for (place, index) in candidates.enumerated() { labels[place].add(record.trimmed(index), line: record.line) }
                for (place, index) in watched.enumerated() { identifiers[place].add(record.trimmed(index)) }
                if let group { groups?.add(record.trimmed(group)) }
            }
            rows += records.count
            try scans.add(records, parallel)
        }
        let found = scans.finish()
        self.scans = found
        self.rows = rows
        guard rows > 0 else { throw CohortError(.invalid, "the file has a header and no rows") }
        guard let index = candidates.last(where: { found[$0].values > 0 }) ?? (target == nil ? nil : candidates.first) else {
            throw CohortError(.invalid, "the last columns have no values: name the column to predict with --target")
        }
        self.target = index
        self.labels = candidates.firstIndex(of: index).map { labels[$0] }
        self.identifiers = Dictionary(uniqueKeysWithValues: zip(watched, identifiers))
        self.groups = groups
    }

    /// The target's labels and how many rows each has.
    var classes: [String: Int]? { labels?.labels(noneIsWord: scans[target].noneIsWord) }

    /// Whether all values of a column that may be an id are different.
    func namesRows(_ index: Int) -> Bool {
        guard let scan = identifiers[index], scan.allDiffer, scan.values > 1, scans[index].missing == 0 else { return false }
        return true
    }
}
