import CohortCore

/// The names of a CSV's columns, and whether its first record holds them.
struct Header {
    let names: [String]
    let isThere: Bool
    /// Columns without a name in a header: `column_1` and so on.
    let unnamed: Set<Int>

    /// Looks at the first records of a file.
    /// - Parameters:
    ///   - known: columns that are known to be there, by name.
    ///   - isThere: nil: told by looking.
    /// - Throws: ``CohortError`` `invalid` for an empty file, and for a header that names two columns alike.
    init(_ reader: CSVReader, known: [String], isThere: Bool?) throws {
        var records: [[String]] = []
        var lines: [Int] = []
        var bytes = 0
        try reader.forEach { record in
            records.append((0..<record.count).map(record.text))
            lines.append(record.line)
            bytes += record.size
            return records.count < 200 && bytes < 1 << 20
        }
        guard var first = records.first else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        let rows = records.dropFirst()
        if isThere != false { try Self.checkFirstLines(records, lines) }
        if isThere != false, !rows.isEmpty, rows.allSatisfy({ $0.count == first.count + 1 }) {
            // R leaves out the name of the row names. Where the last field is empty in all rows, they end with a separator.
            if rows.allSatisfy({ $0.last?.isEmpty ?? true }) { first.append("") } else { first.insert("", at: 0) }
        }
        self.isThere = isThere ?? (known.contains(where: first.contains) || Self.isHeader(first, rows, comma: reader.takesComma))
        names = self.isThere ? try Self.names(first) : (1...first.count).map { "column_\($0)" }
        unnamed = self.isThere ? Set(first.indices.filter { first[$0].isEmpty }) : []
    }

    /// Titles and comments that stand above the header.
    /// - Throws: ``CohortError`` `invalid` with the line that may be the header.
    private static func checkFirstLines(_ records: [[String]], _ lines: [Int]) throws {
        // One line may be a header that begins with #; several are comments, however many fields they have.
        let comments = records.prefix { $0.first?.hasPrefix("#") == true }.count
        if comments > 1, comments <= 30, records.count >= comments + 2,
            !records[comments...].contains(where: { $0.first?.hasPrefix("#") == true })
        {
            throw CohortError(
                .invalid,
                "lines \(lines[0]) to \(lines[comments - 1]) begin with '#': are they comments, and is the header on line \(lines[comments])? Remove the lines above it"
            )
        }
        guard records.count >= 4, let width = records.last?.count, width >= 2,
            let first = records.firstIndex(where: { $0.count == width }), first > 0, first <= 30,
            records[first...].allSatisfy({ $0.count == width }), records[..<first].allSatisfy({ $0.count < width })
        else { return }
        // R's names of rows have no name: the header is one field shorter, and one line.
        guard first > 1 || records[0].count + 1 < width else { return }
        let fields = records[0].count == 1 ? "1 field" : "\(records[0].count) fields"
        throw CohortError(
            .invalid,
            "line \(lines[0]) has \(fields), the lines from \(lines[first]) on have \(width): is the header on line \(lines[first])? Remove the lines above it"
        )
    }

    /// The names in a header; an empty one becomes `column_N`.
    static func names(_ record: [String]) throws -> [String] {
        let names = record.enumerated().map { index, name in name.isEmpty ? "column_\(index + 1)" : name }
        var seen: [String: Int] = [:]
        for (index, name) in names.enumerated() {
            if let other = seen.updateValue(index, forKey: name) {
                throw CohortError(.invalid, "line 1: columns \(other + 1) and \(index + 1) are both named '\(name)'; rename one")
            }
        }
        return names
    }

    /// Each column votes. For a header speak text above numbers, text above words that come again while it does not, an empty first cell
    /// above values that are all different, and numbers with a constant step (years); against one a number on top, and text that comes again
    /// below.
    private static func isHeader(_ first: [String], _ rows: ArraySlice<[String]>, comma: Bool) -> Bool {
        func number(_ text: String) -> Double? { Cell.number(text, comma: comma) }
        // Files that were put one behind the other have their header again. Text above numbers shows that it is one.
        let others = rows.filter { $0 != first }
        func isNumbers(_ index: Int) -> Bool { others.allSatisfy { index < $0.count && number($0[index]) != nil } }
        if others.count > 1, others.count < rows.count, first.allSatisfy({ number($0) == nil && !$0.isEmpty }),
            first.indices.contains(where: isNumbers)
        {
            return true
        }
        func below(_ index: Int) -> [String] {
            rows.compactMap { index < $0.count && !Cell.isMissing($0[index]) ? $0[index] : nil }
        }
        var votes = 0
        var numbered: [Int] = []
        for (index, name) in first.enumerated() {
            let values = below(index)
            if Cell.isMissing(name) {
                // Above names of rows nothing stands, where everything else has a name.
                if index == 0, name.isEmpty, values.count > 1, Set(values).count == values.count {
                    if Set(first).count == first.count { return true }
                    votes += 2
                }
            } else if number(name) != nil {
                numbered.append(index)
            } else if !values.isEmpty, values.allSatisfy({ number($0) != nil }) {
                votes += 1
            } else if !values.isEmpty, isDates(values), !isDates([name]) {
                votes += 1
            } else if values.contains(name) {
                votes -= 1
            } else if Set(values).count * 2 <= values.count {
                votes += 1
            }
        }
        if steps(first, at: numbered, number: number), rows.count(where: { steps($0, at: numbered, number: number) }) * 4 <= rows.count {
            votes += 2
        } else {
            votes -= numbered.count
        }
        // A file of text alone whose first line does not come again: a header, as most files have.
        return votes >= 0
    }

    private static func isDates(_ texts: [String]) -> Bool {
        var formats = DateFormats()
        for text in texts { text.withBytes { formats.add($0) } }
        return !formats.possible.isEmpty
    }

    /// Returns whether these cells, four or more, or three beside others, are numbers with a constant step.
    private static func steps(_ record: [String], at indices: [Int], number: (String) -> Double?) -> Bool {
        let numbers = indices.compactMap { $0 < record.count ? number(record[$0]) : nil }
        guard numbers.count == indices.count, numbers.count >= (indices.count < record.count ? 3 : 4) else { return false }
        let step = numbers[1] - numbers[0]
        let tolerance = abs(step) * 1e-6
        return step != 0 && zip(numbers, numbers.dropFirst()).allSatisfy { abs($1 - $0 - step) <= tolerance }
    }
}

extension CSVReader {
    /// Numbers may have a decimal comma, where `;` separates fields.
    var takesComma: Bool { format.delimiter == UInt8(ascii: ";") }
}

extension TableSchema {
    /// Numbers may have a decimal comma, where `;` separates fields.
    var takesComma: Bool { delimiter == ";" }

    /// Columns next to each other for which `isWanted` holds.
    func runs(_ isWanted: (Column) -> Bool) -> [Range<Int>] {
        columns.indices.reduce(into: []) { runs, index in
            guard isWanted(columns[index]) else { return }
            if let last = runs.last, last.upperBound == index {
                runs[runs.count - 1] = last.lowerBound..<(index + 1)
            } else {
                runs.append(index..<(index + 1))
            }
        }
    }
}

extension CSVRecord {
    /// - Throws: ``CohortError`` `invalid` for a record of another width.
    func check(columns: Int, hasHeader: Bool) throws {
        guard count != columns else { return }
        throw CohortError(.invalid, "line \(line): \(count) fields where \(hasHeader ? "the header" : "the first line") has \(columns)")
    }
}
