import CohortCore

/// Decides the kind of each column after the first pass.
enum ColumnRules {
    static func columns(_ look: FirstLook, header: Header, options: DataOptions) -> [TableSchema.Column] {
        let columns = look.scans.indices.map { column($0, look: look, header: header, options: options) }
        guard columns.allSatisfy({ $0.kind == .ignored || $0.kind == .target }) else { return columns }
        // There is no other feature: then a count is a quantity.
        let counting = columns.indices.filter {
            columns[$0].kind == .ignored && look.scans[$0].countsRows && !options.ignore.contains(columns[$0].name)
        }
        let named = counting.filter { !header.unnamed.contains($0) }
        return columns.enumerated().map { index, column in
            guard (named.isEmpty ? counting : named).contains(index) else { return column }
            return TableSchema.Column(
                name: column.name, kind: .numeric, missing: column.missing, note: "counts the rows, but is all there is to learn from")
        }
    }

    private static func column(_ index: Int, look: FirstLook, header: Header, options: DataOptions) -> TableSchema.Column {
        let scan = look.scans[index]
        let isUsed = options.use.contains(scan.name) || options.keepsIds == true && scan.isNumeric
        var column = TableSchema.Column(name: scan.name, kind: .ignored, missing: scan.missing)
        let keeps = "--use \(scan.name.contains(" ") ? "'\(scan.name)'" : scan.name) keeps it"
        if index == look.target {
            column.kind = .target
        } else if options.ignore.contains(scan.name) {
            column.note = "is left out, as asked"
        } else if scan.values == 0 {
            column.note = "has no values"
        } else if !scan.varies, scan.isNumeric && options.keepsConstant != true || !scan.isNumeric && scan.missing == 0 {
            column.note = "has the one value '\(scan.sample)'"
        } else if scan.name == options.group, !options.use.contains(scan.name) {
            column.note = "groups the rows: no feature"
        } else if !isUsed, scan.countsRows {
            column.note = "counts the rows: an id (\(keeps))"
        } else if !isUsed, scan.dateFormat == nil, look.namesRows(index),
            scan.texts > 0 || scan.isWhole || header.unnamed.contains(index)
        {
            column.note =
                header.unnamed.contains(index)
                ? "has no name and all values different: names of rows (\(keeps))" : "has all values different: an id (\(keeps))"
        } else {
            let isCategory = options.category.contains(scan.name) || scan.isCode && !options.number.contains(scan.name)
            column.kind = scan.isNumeric && !isCategory ? .numeric : scan.dateFormat != nil && !isCategory ? .date : .categorical
            guard !isCategory else { return column }
            // Of numbers, what they may be dates of.
            column.dateFormat =
                scan.isNumeric ? DateFormat.ofNumbers(named: scan.name, first: scan.sample) : scan.dateFormat
        }
        return column
    }
}
